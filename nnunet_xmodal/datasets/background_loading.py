"""Loaders in processes of their own, as nnU-Net runs its."""

from typing import TypeAlias

import torch
from batchgenerators.dataloading.data_loader import DataLoader
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

Augmenter: TypeAlias = NonDetMultiThreadedAugmenter | SingleThreadedAugmenter


def in_background(
    training_loader: DataLoader, validation_loader: DataLoader, device: torch.device
) -> tuple[Augmenter, Augmenter]:
    """Start both loaders in as many processes as `nnUNet_n_proc_DA` says; with none they load in this one."""
    return started(training_loader, device), started(validation_loader, device, share=2)


def started(loader: DataLoader, device: torch.device, share: int = 1) -> Augmenter:
    """Start one loader, with nnU-Net's number of processes divided by `share`."""
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
