"""An existing raw dataset of nnU-Net as the input of a preparation, whose result says the same in its dataset.json."""

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from nnunet_xmodal.datasets.cases import cases_in_folder, training_cases
from nnunet_xmodal.datasets.streams import channel_names_of, streams_of_dataset
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dataset_json import read_trainable
from nnunet_xmodal.preparation.sources import SourceCase

_OURS = ("channel_names", "modality", "labels", "numTraining", "file_ending", "dataset")
"""What a prepared dataset says of itself."""


def raw_dataset_of(folder: Path) -> Path | None:
    """Return the folder if it is a raw dataset, or that of this name in nnUNet_raw; None where neither is one."""
    for place in (folder, Path(os.environ.get("nnUNet_raw", "")) / folder):
        if (place / "dataset.json").is_file() and (place / "imagesTr").is_dir():
            return place
    return None


def cases_of(dataset: Path) -> tuple[list[SourceCase], list[str], dict]:
    """Read what a raw dataset holds: its training cases with labels, its test cases with existing labels.

    Returns:
        Cases by name, channels in the order of their numbers, and dataset.json.

    Raises:
        XModalError: see `datasets.checks.training_cases`; for two channels of one name, and a test case with the name
            of a training case.
    """
    dataset_json = read_trainable(dataset / "dataset.json")
    names = channel_names_of(dataset_json)
    if len(set(names)) < len(names):
        raise XModalError(f"{dataset / 'dataset.json'} calls two channels alike ({', '.join(names)}): rename one.")
    cases = [
        SourceCase(case.name, dict(zip(names, case.images)), case.label, split="Tr")
        for case in training_cases(dataset, dataset_json)
    ]
    if (dataset / "imagesTs").is_dir() and any((dataset / "imagesTs").iterdir()):
        for test_case in cases_in_folder(dataset / "imagesTs", dataset_json):
            label = dataset / "labelsTs" / f"{test_case.name}{dataset_json['file_ending']}"
            images = dict(zip(names, test_case.images))
            cases.append(SourceCase(test_case.name, images, label if label.is_file() else None, split="Ts"))
    cases.sort(key=lambda case: case.name)
    for case, following in pairwise(cases):
        if case.name == following.name:
            raise XModalError(f"{dataset} has the case {case.name} in imagesTr and in imagesTs: rename one.")
    return cases, names, dataset_json


def streams_by_name(dataset_json: Mapping, names: list[str]) -> list[list[str]] | None:
    """Return the streams of a dataset.json by the names of their channels."""
    streams = streams_of_dataset(dict(dataset_json), names)
    return [[names[index] for index in stream] for stream in streams] if streams is not None else None


def carried_over(dataset_json: Mapping) -> dict:
    """Return what a dataset.json says beside what a prepared one says anew, such as its description."""
    return {key: value for key, value in dataset_json.items() if key not in _OURS}
