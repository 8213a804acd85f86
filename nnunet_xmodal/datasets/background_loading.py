"""Loaders in processes of their own, as nnU-Net runs its."""

import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

Augmenter = NonDetMultiThreadedAugmenter | SingleThreadedAugmenter


def in_background(training_loader, validation_loader, device: torch.device) -> tuple[Augmenter, Augmenter]:
    """Starts both; how many processes is nnU-Net's to say (`nnUNet_n_proc_DA`), with none they load in this one."""
    return started(training_loader, device), started(validation_loader, device, share=2)


def started(loader, device: torch.device, share: int = 1) -> Augmenter:
    """Starts one, with one `share`-th of nnU-Net's processes."""
    processes = get_allowed_n_proc_DA()
    if processes == 0:
        augmenter = SingleThreadedAugmenter(loader, None)
    else:
        augmenter = NonDetMultiThreadedAugmenter(
            data_loader=loader,
            transform=None,
            num_processes=max(1, processes // share),
            num_cached=max(6 // share, processes // (2 * share)),
            seeds=None,
            pin_memory=device.type == "cuda",
            wait_time=0.002,
        )
    next(augmenter)  # processes start with the first batch
    return augmenter
