"""What trainers need to validate on a fold what no training has made, with results beside those of trainings."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

from nnunet_xmodal import discovery
from nnunet_xmodal.commands.argument_types import fold
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.trainers.base.own_task import OwnTaskTrainer

Trainer = TypeVar("Trainer", bound=OwnTaskTrainer)


def parser_of_folds(description: str | None, plans: str) -> argparse.ArgumentParser:
    """Return a parser that asks for dataset, folds, plans (by default those named here) and device."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", required=True, help="dataset, number or name")
    parser.add_argument("-f", nargs="+", type=fold, default=[0, 1, 2, 3, 4], help="folds (default: all five)")
    parser.add_argument("-p", default=plans, help="plans")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"), help="of the networks")
    return parser


def validate_folds(kinds: Iterable[type[OwnTaskTrainer]], configuration: str, args: argparse.Namespace) -> None:
    """Run the final validation of every trainer on every fold."""
    discovery.register()
    for kind in kinds:
        for number in args.f:
            trainer_of_fold(kind, configuration, args, number).perform_actual_validation()


def trainer_of_fold(kind: type[Trainer], configuration: str, args: argparse.Namespace, number: int | str) -> Trainer:
    """Make the trainer of one fold, and leave plans.json and dataset.json in its results folder as a training does."""
    dataset = maybe_convert_to_dataset_name(int(args.d) if args.d.isdecimal() else args.d)
    preprocessed = Path(nnUNet_preprocessed) / dataset
    plans, dataset_json = (read_json(preprocessed / f"{name}.json") for name in (args.p, "dataset"))
    trainer = kind(plans, configuration, number, dataset_json, torch.device(args.device))
    write_json(trainer.plans_manager.plans, Path(trainer.output_folder_base) / "plans.json")
    write_json(trainer.dataset_json, Path(trainer.output_folder_base) / "dataset.json")
    return trainer
