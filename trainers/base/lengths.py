"""Trainers of a chosen length, made from their name: `nnUNetTrainerCSAD_100epochs`, `nnUNetTrainer_10epochs_50its`."""

from functools import cache

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xmodal import trainers
from nnunet_xmodal.trainers.base.names import length_of, without_length


@cache
def trainer_of_length(name: str) -> type[nnUNetTrainer] | None:
    """Return the class called `name`, or None if no trainer with a length is called so.

    Cached, and placed in `nnunet_xmodal.trainers`, so that one name is one class and its objects pickle.
    """
    length = length_of(name)
    base_name = without_length(name)
    if length is None or base_name not in ("nnUNetTrainer", *trainers.TRAINERS):
        return None
    base = nnUNetTrainer if base_name == "nnUNetTrainer" else getattr(trainers, base_name)

    def __init__(
        self: nnUNetTrainer,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        base.__init__(self, plans, configuration, fold, dataset_json, device)
        self.num_epochs = length.epochs
        if length.iterations is not None:
            self.num_iterations_per_epoch = length.iterations
            self.num_val_iterations_per_epoch = max(1, self.num_iterations_per_epoch // 5)

    return type(name, (base,), {"__init__": __init__, "__module__": trainers.__name__, "__doc__": base.__doc__})
