"""What a comparison reads: trained models, folders of predictions, references, subjects."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from nnunet_xmodal import discovery
from nnunet_xmodal.comparison.cross_validation import ModelResults, read_dataset_json, read_model, read_predictions
from nnunet_xmodal.comparison.request import ComparisonRequest
from nnunet_xmodal.datasets.grouped_split import GROUPS_FILE, subjects_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files import dataset_names
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.named_folders import name_and_folder
from nnunet_xmodal.trainers.base.names import without_length


@dataclass(frozen=True)
class TrainedModel:
    """Results, and what trained them."""

    results: ModelResults
    trainer: str
    configuration: str


def trained_models(request: ComparisonRequest) -> list[TrainedModel]:
    """Read the results of -d, -c, -tr and -p, named by what tells them apart.

    Raises:
        XModalError: for flags that do not go together, and see `read_model`.
    """
    if not request.trainers:
        if not request.folders:
            raise XModalError("there is nothing to compare: give -d, -c and -tr, or --folders and --gt.")
        return []
    if request.dataset is None or not request.configurations:
        raise XModalError("-tr needs -d and -c as well.")
    require_variables("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    discovery.register()
    results = Path(os.environ["nnUNet_results"]) / dataset_names.dataset_name(request.dataset)
    names = _without_common_length(request.trainers)
    models = []
    for (trainer, short), plans, configuration in product(
        zip(request.trainers, names), request.plans, request.configurations
    ):
        parts = [(short, True), (plans, len(request.plans) > 1), (configuration, len(request.configurations) > 1)]
        name = ", ".join(part for part, tells_apart in parts if tells_apart)
        folder = results / f"{trainer}__{plans}__{configuration}"
        models.append(TrainedModel(read_model(name, folder, request.folds), trainer, configuration))
    return models


def _without_common_length(trainers: Sequence[str]) -> list[str]:
    """`nnUNetTrainer_5epochs`, `nnUNetTrainerCSAD_5epochs` → `nnUNetTrainer`, `nnUNetTrainerCSAD`."""
    plain = [without_length(trainer) for trainer in trainers]
    lengths = {trainer.removeprefix(name) for trainer, name in zip(trainers, plain)}
    return plain if len(lengths) == 1 else list(trainers)


def prediction_folders(request: ComparisonRequest, dataset_json: dict | None) -> list[ModelResults]:
    """Read the results of --folders.

    Args:
        dataset_json: of the models beside them; None looks for --dataset_json.
    """
    named = [name_and_folder(word, "--folders") for word in request.folders]
    if not named:
        return []
    if dataset_json is None:
        dataset_json = _dataset_json(request, named[0][1])
    return [read_predictions(name, folder, dataset_json) for name, folder in named]


def _dataset_json(request: ComparisonRequest, folder: Path) -> dict:
    if request.dataset_json is not None:
        places = [request.dataset_json]
    else:
        places = [folder / "dataset.json"]
        places += [request.references.parent / "dataset.json"] if request.references else []
        dataset = dataset_name(request)
        places += [Path(os.environ["nnUNet_raw"]) / dataset / "dataset.json"] if dataset else []
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise XModalError(f"{places[0]} is no file: name the labels with --dataset_json FILE.")
    return read_dataset_json(file)


def dataset_name(request: ComparisonRequest) -> str | None:
    """Return the full name of the dataset of -d."""
    if request.dataset is None:
        return None
    require_variables("nnUNet_raw", "nnUNet_preprocessed")
    return dataset_names.dataset_name(request.dataset)


def references_folder(request: ComparisonRequest, dataset: str | None) -> Path | None:
    """Return the folder of --gt, else where nnU-Net keeps the references of the dataset."""
    if request.references is not None:
        if not request.references.is_dir():
            raise XModalError(f"--gt {request.references} is no folder.")
        return request.references
    if dataset is None:
        return None
    places = [
        Path(os.environ["nnUNet_preprocessed"]) / dataset / "gt_segmentations",
        Path(os.environ["nnUNet_raw"]) / dataset / "labelsTr",
    ]
    return next((place for place in places if place.is_dir()), None)


def subjects(request: ComparisonRequest, dataset: str | None, cases: Sequence[str]) -> Mapping[str, str] | None:
    """Map cases to subjects, by --group-by or else by the groups that nnUNetXModal_crossval made the folds of."""
    if request.group_by is not None:
        return subjects_of(cases, request.group_by)
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
