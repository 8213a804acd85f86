"""The files of a trained model: plans.json, dataset.json, a checkpoint per fold; each may be missing or cut."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dataset_json import read_dataset_json
from nnunet_xmodal.files.plan_settings import check_settings
from nnunet_xmodal.files.trusted_checkpoints import read_checkpoint
from nnunet_xmodal.files.trusted_names import find_trainer
from nnunet_xmodal.files.trusted_plans import check_plans


def check_model(folder: Path, folds: Sequence[int | str], checkpoint: str = "checkpoint_final.pth") -> None:
    """Check everything that nnU-Net reads of a model, before it builds or loads anything.

    Raises:
        XModalError: for a file that is missing, cut or not trusted.
    """
    read_model_dataset_json(folder)
    plans = read_model_plans(folder)
    for fold in folds:
        file = find_checkpoint(folder, fold, checkpoint)
        content = read_checkpoint(file, mmap=True)
        find_trainer(content.get("trainer_name"), str(file))
        check_describes(plans, content, file)


def check_describes(plans: dict, checkpoint: dict, file: Path) -> None:
    """Check that plans have the configuration of which a checkpoint's network is to be built, and describe it.

    Raises:
        XModalError: if they have not, the checkpoint names none, or a setting is missing, see `check_settings`.
    """
    arguments = checkpoint.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
    if not isinstance(configuration, str) or not isinstance(checkpoint.get("network_weights"), dict):
        raise XModalError(f"{file} is no readable checkpoint of nnU-Net (it lacks its settings): copy it anew.")
    if configuration not in plans["configurations"]:
        raise XModalError(
            f"{file} was trained on the configuration {configuration!r}, which the plans.json beside it does not "
            "describe: one of them is another model's."
        )
    check_settings(plans, configuration, file.parents[1] / "plans.json")


def read_model_plans(folder: Path) -> dict:
    """Read plans.json.

    Raises:
        XModalError: if it is missing or cut, or names what plans have no business with.
    """
    plans = _read(folder / "plans.json")
    check_plans(plans, folder / "plans.json")
    return plans


def read_model_dataset_json(folder: Path) -> dict:
    """Read dataset.json.

    Raises:
        XModalError: if it is missing or cut, or has no channels, labels or file ending that nnU-Net understands.
    """
    file = folder / "dataset.json"
    _read(file)  # says how to get another one
    content = read_dataset_json(file)
    if not isinstance(content.get("channel_names", content.get("modality")), (dict, list)):
        raise XModalError(f"{file} names no channels: copy it anew from where the model was trained.")
    if not isinstance(content.get("labels"), (dict, list)):
        raise XModalError(f"{file} names no labels: copy it anew from where the model was trained.")
    ending = content.get("file_ending")
    if not isinstance(ending, str) or not re.fullmatch(r"(\.\w+)+", ending):
        raise XModalError(f"file_ending in {file} is {ending!r}, which ends no file: write for example .nii.gz.")
    return content


def find_checkpoint(folder: Path, fold: int | str, name: str = "checkpoint_final.pth") -> Path:
    """Return a fold's checkpoint.

    Raises:
        XModalError: if it is not there, with the folds that have one.
    """
    file = folder / f"fold_{fold}" / name
    if file.is_file():
        return file
    trained = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{name}"))
    there = f"name the trained ones with -f ({' '.join(trained)})" if trained else "no fold has one"
    others = sorted(path.name for path in file.parent.glob("checkpoint_*.pth"))
    instead = f", or take {others[0]} with -chk" if others else ""
    raise XModalError(
        f"{file} is missing: train that fold, or {there}{instead}."
        if trained
        else f"{file} is missing, and {there}: train it, or copy the model anew{instead}."
    )


def _read(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise XModalError(
            f"{file} is missing: copy it from where the model was trained, or install the model anew from its zip."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise XModalError(
            f"{file} cannot be read in full ({error}): copy it from where the model was trained, or install the model "
            "anew from its zip."
        ) from error
    if not isinstance(content, dict):
        raise XModalError(f"{file} holds a {type(content).__name__} and no table of names: copy it anew.")
    return content
