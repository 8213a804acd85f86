"""Seconds per training step and memory of saved activations, several trainers side by side on one plan.

    python benchmarks/speed/training_step.py -d 501 -c 2d_b8
    python benchmarks/speed/training_step.py -d 501 -c 3d_fullres --repeats 3
    python benchmarks/speed/training_step.py -d 501 -c 2d --batch_size 8 \\
        -tr nnUNetTrainer nnUNetTrainer@nnUNetXModalIsoPlans
    python benchmarks/speed/training_step.py -d 502 -c 2d_b8 \\
        -tr nnUNetTrainer nnUNetTrainerCMFT nnUNetTrainerCMFTCheckpointed
    python benchmarks/speed/training_step.py -d 501 -c 2d_b8 --iso_compute -tr @fusion
    python benchmarks/speed/training_step.py -d 961 -c 3d_fullres -p nnUNetRegistrationPlans -tr @registration
    python benchmarks/speed/training_step.py -d 974 -c 2d -p nnUNetFewShotPlans -tr @few_shotLite

Trainers take turns, so that a busy machine slows all of them; ratios of medians are to the first trainer. Patches are
random: the time of a step does not depend on them. Registrations and episodes are of the dataset's first fold, which is
made where it is missing, with the superpixels. Nothing else is written outside a temporary folder.

With --iso_compute every trainer but the first has its own widths: those at which its network needs as many operations
for a patch as the first trainer's does at the plan's.
"""

import argparse
import json
import os
import statistics
import tempfile
import weakref
from collections import Counter
from copy import deepcopy
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch.utils.flop_counter import FlopCounterMode

from nnunet_xmodal import discovery
from nnunet_xmodal.catalogue.groups import expanded
from nnunet_xmodal.prediction.building import building
from nnunet_xmodal.trainers.base.few_shot import FewShotTrainer
from nnunet_xmodal.trainers.base.registration import RegistrationTrainer

TRAINERS = ["nnUNetTrainer", "nnUNetTrainerMultiStream", "nnUNetTrainerSCFF", "nnUNetTrainerCSAD"]


def make_trainer(
    name: str, folder: Path, args: argparse.Namespace, device: torch.device, share: float = 1.0
) -> nnUNetTrainer:
    """Return a trainer on the plans, ready for a step; the name may hold other plans, TRAINER@PLANS.

    Args:
        share: of the plan's widths, see `iso_compute`.
    """
    name, _, plans_name = name.partition("@")
    configuration = args.c
    plans = json.loads((folder / f"{plans_name or args.p}.json").read_text())
    if args.batch_size:
        plans["configurations"][configuration]["batch_size"] = args.batch_size
    scale_widths(plans, configuration, share)
    plans["continue_training"] = False
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = recursive_find_trainer_class_by_name(name)(plans, configuration, 0, dataset_json, device)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.network.train()
    return trainer


def random_batch(trainer: nnUNetTrainer) -> dict:
    """Draw a batch as the trainer's loader would give it."""
    patch = trainer.configuration_manager.patch_size
    batch = trainer.batch_size
    scales = trainer._get_deep_supervision_scales() or [[1.0] * len(patch)]
    channels = trainer.label_manager.num_segmentation_heads if trainer.label_manager.has_regions else 1
    targets = []
    for scale in scales:
        size = [batch, channels, *np.round(np.multiply(patch, scale)).astype(int)]
        if trainer.label_manager.has_regions:
            targets.append(torch.rand(*size) > 0.9)
        else:
            targets.append(torch.randint(0, trainer.label_manager.num_segmentation_heads, size, dtype=torch.int16))
    return {
        "data": torch.randn(batch, trainer.num_input_channels, *patch),
        "target": targets if trainer.enable_deep_supervision else targets[0],
        "keys": [str(index) for index in range(batch)],
    }


def batch_of(trainer: nnUNetTrainer) -> dict:
    """Return a batch for a step: of patches a random one, of registrations and episodes the loader's next one."""
    if not isinstance(trainer, (RegistrationTrainer, FewShotTrainer)):
        return random_batch(trainer)
    training, _ = trainer.get_dataloaders()
    return next(training)


class _Kept:
    """A tensor that autograd keeps; lets go of its storage in the count when autograd lets go of it."""

    def __init__(self, tensor: torch.Tensor, counted: "_Storages") -> None:
        self.tensor = tensor
        counted.add(tensor)
        weakref.finalize(self, counted.remove, tensor.untyped_storage().data_ptr())


class _Storages:
    """Bytes of distinct storages that are kept, now and at the most."""

    def __init__(self, known: set[int]) -> None:
        self.known, self.peak = known, 0
        self.users: Counter[int] = Counter()  # by the storage's pointer
        self.sizes: dict[int, int] = {}

    def add(self, tensor: torch.Tensor) -> None:
        pointer = tensor.untyped_storage().data_ptr()
        self.users[pointer] += 1
        self.sizes[pointer] = 0 if pointer in self.known else tensor.untyped_storage().nbytes()
        self.peak = max(self.peak, sum(self.sizes.values()))

    def remove(self, pointer: int) -> None:
        self.users[pointer] -= 1
        if not self.users[pointer]:
            del self.sizes[pointer]


def saved_activations(trainer: nnUNetTrainer, batch: dict) -> int:
    """Return the most bytes of distinct tensors that autograd keeps at once in a step, parameters excluded.

    What checkpointed activations compute again in the backward pass is not seen.
    """
    networks = [trainer.network, getattr(trainer, "discriminators", None)]
    parameters = {p.untyped_storage().data_ptr() for network in networks if network for p in network.parameters()}
    storages = _Storages(parameters)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Kept(tensor, storages), lambda kept: kept.tensor):
        trainer.train_step(batch)
    return storages.peak


def step_seconds(trainer: nnUNetTrainer, batch: dict) -> float:
    """Return how long a training step takes."""
    start = perf_counter()
    trainer.train_step(batch)  # ends with loss.cpu(), which waits for a GPU
    return perf_counter() - start


def scale_widths(plans: dict, configuration: str, share: float) -> None:
    """Multiply the widths of a configuration, which may inherit them, rounded to multiples of four, in place."""
    if share == 1:
        return
    architecture = deepcopy(PlansManager(plans).get_configuration(configuration).configuration["architecture"])
    arguments = architecture["arch_kwargs"]
    arguments["features_per_stage"] = [max(4, 4 * round(share * w / 4)) for w in arguments["features_per_stage"]]
    plans["configurations"][configuration]["architecture"] = architecture


def forward_flops(trainer: nnUNetTrainer, share: float) -> int:
    """Count the operations of one patch in prediction, two per multiply-add, at a share of the trainer's widths."""
    plans = deepcopy(trainer.plans_manager.plans)
    scale_widths(plans, trainer.configuration_name, share)
    manager = PlansManager(plans)
    configuration = manager.get_configuration(trainer.configuration_name)
    heads = trainer.label_manager.num_segmentation_heads
    with torch.device("meta"), building("predictor"):
        network = trainer.build_network_architecture(
            manager, configuration, trainer.num_input_channels, heads, enable_deep_supervision=False
        ).eval()
        patch = torch.empty(1, trainer.num_input_channels, *configuration.patch_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(patch)
    return counter.get_total_flops()


def share_of_widths(trainer: nnUNetTrainer, operations: int) -> float:
    """Return the share of its widths at which a trainer's network needs at most this many operations."""
    low, high = 0.0, 4.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if forward_flops(trainer, middle) <= operations else (low, middle)
    return low


def _giga(trainer: nnUNetTrainer) -> str:
    try:
        return f"{forward_flops(trainer, 1.0) / 1e9:.2f}"
    except Exception:  # of a network that predicts something else than patches
        return "–"


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", required=True, help="dataset name or ID, planned")
    parser.add_argument("-c", required=True, help="configuration")
    parser.add_argument("-p", default="nnUNetPlans", help="plans")
    parser.add_argument("-tr", nargs="+", default=TRAINERS, help="trainers, or TRAINER@PLANS; ratios are to the first")
    parser.add_argument("--batch_size", type=int, help="instead of that of the plans")
    parser.add_argument("--iso_compute", action="store_true", help="widths at which all need the first one's FLOPs")
    parser.add_argument("--repeats", type=int, default=10, help="timed steps per trainer, after one to warm up")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    discovery.register()
    folder = Path(nnUNet_preprocessed) / maybe_convert_to_dataset_name(args.d)
    device = torch.device(args.device)
    with tempfile.TemporaryDirectory() as results:
        os.environ |= {"nnUNet_results": results, "nnUNet_n_proc_DA": "0"}  # batches are made in this process
        args.tr = expanded(args.tr)
        shares = dict.fromkeys(args.tr, 1.0)
        if args.iso_compute:
            operations = forward_flops(make_trainer(args.tr[0], folder, args, torch.device("cpu")), 1.0)
            for name in args.tr[1:]:
                shares[name] = share_of_widths(make_trainer(name, folder, args, torch.device("cpu")), operations)
        trainers = {name: make_trainer(name, folder, args, device, share) for name, share in shares.items()}
        batches = {name: batch_of(trainer) for name, trainer in trainers.items()}
        memory = {name: saved_activations(trainer, batches[name]) for name, trainer in trainers.items()}
        peak = {}
        for name, trainer in trainers.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            step_seconds(trainer, batches[name])
            if device.type == "cuda":
                peak[name] = torch.cuda.max_memory_allocated()
        seconds: dict[str, list[float]] = {name: [] for name in trainers}
        for _ in range(args.repeats):
            for name, trainer in trainers.items():
                seconds[name].append(step_seconds(trainer, batches[name]))

    configuration = trainers[args.tr[0]].configuration_manager
    print(f"\n{args.d} {args.c}: batch {trainers[args.tr[0]].batch_size}, patch {configuration.patch_size}, {device}\n")
    print(
        "| trainer | widths | GFLOPs | parameters | s per step (median) | ratio | saved activations | ratio "
        "| peak on the GPU |"
    )
    print(f"|---|{'--:|' * 8}")
    first = args.tr[0]
    for name in args.tr:
        median = statistics.median(seconds[name])
        print(
            f"| {name} | × {shares[name]:.3f} | {_giga(trainers[name])} "
            f"| {sum(p.numel() for p in trainers[name].network.parameters()):,} "
            f"| {median:.3f} | {median / statistics.median(seconds[first]):.2f} "
            f"| {memory[name] / 2**20:.0f} MiB | {memory[name] / memory[first]:.2f} "
            f"| {f'{peak[name] / 2**20:.0f} MiB' if peak else '–'} |"
        )


if __name__ == "__main__":
    main()
