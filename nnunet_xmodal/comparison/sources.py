"""What the flags of `nnUNetXModal_compare` name: trained models, folders of predictions, references, subjects."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from nnunet_xmodal import discovery
from nnunet_xmodal.comparison.cross_validation import ModelResults, read_dataset_json, read_model, read_predictions
from nnunet_xmodal.comparison.settings import ComparisonSettings
from nnunet_xmodal.datasets.grouped_split import GROUPS_FILE, subjects_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files import dataset_names
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.trainers.base.names import without_length


@dataclass(frozen=True)
class TrainedModel:
    """Results, and what trained them."""

    results: ModelResults
    trainer: str
    configuration: str


def trained_models(settings: ComparisonSettings) -> list[TrainedModel]:
    """Those of -d, -c, -tr and -p, named by what tells them apart.

    Raises:
        XModalError: for flags that do not go together, and see `read_model`.
    """
    if not settings.trainers:
        if not settings.folders:
            raise XModalError("there is nothing to compare: give -d, -c and -tr, or --folders and --gt.")
        return []
    if settings.dataset is None or not settings.configurations:
        raise XModalError("-tr needs -d and -c as well.")
    require_variables("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    discovery.register()
    results = Path(os.environ["nnUNet_results"]) / dataset_name(settings)
    names = _without_common_length(settings.trainers)
    models = []
    for (trainer, short), plans, configuration in product(
        zip(settings.trainers, names), settings.plans, settings.configurations
    ):
        parts = [(short, True), (plans, len(settings.plans) > 1), (configuration, len(settings.configurations) > 1)]
        name = ", ".join(part for part, is_told in parts if is_told)
        folder = results / f"{trainer}__{plans}__{configuration}"
        models.append(TrainedModel(read_model(name, folder, settings.folds), trainer, configuration))
    return models


def _without_common_length(trainers: Sequence[str]) -> list[str]:
    """`nnUNetTrainer_5epochs`, `nnUNetTrainerCSAD_5epochs` → `nnUNetTrainer`, `nnUNetTrainerCSAD`."""
    plain = [without_length(trainer) for trainer in trainers]
    lengths = {trainer.removeprefix(name) for trainer, name in zip(trainers, plain)}
    return plain if len(lengths) == 1 else list(trainers)


def prediction_folders(settings: ComparisonSettings, dataset_json: dict | None) -> list[ModelResults]:
    """Those of --folders.

    Args:
        dataset_json: of the models beside them; None looks for --dataset_json.
    """
    named = [_name_and_folder(word) for word in settings.folders]
    if named and dataset_json is None:
        dataset_json = _dataset_json(settings, named[0][1])
    return [read_predictions(name, folder, dataset_json) for name, folder in named]


def _name_and_folder(word: str) -> tuple[str, Path]:
    """Of `FOLDER` or `NAME=FOLDER`; of several = the first that leaves a folder behind it."""
    if Path(word).is_dir() or "=" not in word:
        return Path(word).resolve().name, Path(word)
    parts = word.split("=")
    splits = [("=".join(parts[:n]), "=".join(parts[n:])) for n in range(1, len(parts))]
    name, folder = next((split for split in splits if split[1] and Path(split[1]).is_dir()), splits[0])
    if not folder:
        raise XModalError(f"--folders {word} names no folder: give NAME=FOLDER.")
    return name or Path(folder).resolve().name, Path(folder)


def _dataset_json(settings: ComparisonSettings, folder: Path) -> dict:
    if settings.dataset_json is not None:
        places = [settings.dataset_json]
    else:
        places = [folder / "dataset.json"]
        places += [settings.references.parent / "dataset.json"] if settings.references else []
        dataset = dataset_name(settings)
        places += [Path(os.environ["nnUNet_raw"]) / dataset / "dataset.json"] if dataset else []
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise XModalError(f"{places[0]} is no file: name the labels with --dataset_json FILE.")
    return read_dataset_json(file)


def dataset_name(settings: ComparisonSettings) -> str | None:
    """The full name of -d."""
    if settings.dataset is None:
        return None
    require_variables("nnUNet_raw", "nnUNet_preprocessed")
    return dataset_names.dataset_name(settings.dataset)


def references_folder(settings: ComparisonSettings, dataset: str | None) -> Path | None:
    """--gt, else where nnU-Net keeps those of the dataset."""
    if settings.references is not None:
        if not settings.references.is_dir():
            raise XModalError(f"--gt {settings.references} is no folder.")
        return settings.references
    if dataset is None:
        return None
    places = [
        Path(os.environ["nnUNet_preprocessed"]) / dataset / "gt_segmentations",
        Path(os.environ["nnUNet_raw"]) / dataset / "labelsTr",
    ]
    return next((place for place in places if place.is_dir()), None)


def subjects(settings: ComparisonSettings, dataset: str | None, cases: Sequence[str]) -> Mapping[str, str] | None:
    """Case → subject by --group-by, else by the groups that nnUNetXModal_crossval made the folds of."""
    if settings.group_by:
        return subjects_of(cases, settings.group_by)
    if dataset is not None:
        file = Path(os.environ["nnUNet_preprocessed"]) / dataset / GROUPS_FILE
        if file.is_file():
            return _groups(file, cases)
    return None


def _groups(file: Path, cases: Sequence[str]) -> Mapping[str, str]:
    try:
        groups = read_json(file)
        return {case: str(groups[case]) for case in cases}
    except (ValueError, TypeError, KeyError) as error:
        raise XModalError(
            f"{file} names no subject for every case ({error!r}): correct it, or give --group-by."
        ) from error
