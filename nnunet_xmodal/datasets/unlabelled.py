"""Training cases without a label file: nnU-Net wants one for each, so they get an empty one.

nnU-Net takes the intensities of its fingerprint from labelled voxels of all cases together, and percentiles of none are
an IndexError: empty label maps are fine, as long as one of them is not.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from nnunet_xmodal.datasets.cases import Case, cases_in_folder, label_values
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.files.temporary import temporary_folder
from nnunet_xmodal.files.volume_writer import write_label_map


def partly_labelled_cases(raw_folder: str | Path, dataset_json: dict) -> list[Case]:
    """Return the training cases of a raw dataset; `label` names where the label map is or belongs.

    From folders, or from the file lists in dataset.json, which have to name the label maps that are to be written.

    Raises:
        XModalError: see `datasets.checks.cases_in_folder`; for another number of cases or of images than dataset.json
            says, a list without a label map, labels that name no foreground, and if no label map exists that has a
            labelled voxel.
    """
    raw_folder = Path(raw_folder)
    labels = label_values(dataset_json)
    if labels == {0}:
        raise XModalError(
            f"{raw_folder / 'dataset.json'} names no label but background: name what is to be segmented, for example "
            '"labels": {"background": 0, "liver": 1}.'
        )
    if "dataset" in dataset_json:
        cases = [_listed(raw_folder, name, files, dataset_json) for name, files in dataset_json["dataset"].items()]
    else:
        ending = dataset_json["file_ending"]
        cases = [
            replace(case, label=raw_folder / "labelsTr" / f"{case.name}{ending}")
            for case in cases_in_folder(raw_folder / "imagesTr", dataset_json)
        ]
    if len(cases) != dataset_json.get("numTraining", len(cases)):
        raise XModalError(
            f"dataset.json says numTraining {dataset_json['numTraining']} but {raw_folder} holds {len(cases)} cases: "
            "correct the number, which counts cases without a label map as well."
        )
    existing = [case.label_file for case in cases if case.label_file.is_file()]
    if not any((read_image(label, dataset_json, is_label=True)[0] > 0).any() for label in existing):
        raise XModalError(
            f"none of the {len(cases)} training cases of {raw_folder} has a labelled voxel, and nnU-Net's fingerprint "
            f"needs one: label one case, for example {cases[0].label}."
        )
    return [replace(case, labels=labels) for case in cases]


def _listed(raw_folder: Path, name: str, files: dict, dataset_json: dict) -> Case:
    channels = len(channel_names_of(dataset_json))
    if len(files["images"]) != channels:
        raise XModalError(f"dataset.json lists {len(files['images'])} images for {name} but {channels} channels.")
    if "label" not in files:
        raise XModalError(
            f'dataset.json lists no "label" for {name}: name the file that an empty label map is to be written to.'
        )
    images = [raw_folder / os.path.expandvars(image) for image in files["images"]]
    return Case(name, images, raw_folder / os.path.expandvars(files["label"]))


def existing_files(cases: Sequence[Case]) -> list[Case]:
    """Return the same cases without the label maps that are still to be written."""
    return [case if case.label_file.is_file() else replace(case, label=None) for case in cases]


def write_empty_labels(cases: Sequence[Case], dataset_json: dict) -> int:
    """Write a label map of zeros, uint8, with the first image's geometry, for every case that has none.

    Existing files stay as they are, and every file is there in full or not at all.

    Args:
        cases: see `partly_labelled_cases`.

    Returns:
        How many were written.

    Raises:
        XModalError: for a file that nnU-Net's reader cannot read.
    """
    missing = [case for case in cases if not case.label_file.is_file()]
    for case in missing:
        _write_zeros(case, dataset_json)
    return len(missing)


def _write_zeros(case: Case, dataset_json: dict) -> None:
    image = str(case.images[0])
    reader = determine_reader_writer_from_dataset_json(dataset_json, image, verbose=False)()
    try:
        voxels, properties = reader.read_images([image])
    except Exception as error:  # whatever readers raise
        raise XModalError(f"{image} cannot be read ({error}): replace it by an intact file.") from error
    case.label_file.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(case.label_file.parent) as folder:
        write_label_map(np.zeros(voxels.shape[1:], np.uint8), Path(folder) / case.label_file.name, properties, reader)
        written = sorted(Path(folder).iterdir(), key=lambda file: file.name == case.label_file.name)
        for file in written:  # the label map last; TIFF has a file with the spacing beside it
            if not (case.label_file.parent / file.name).exists():
                os.replace(file, case.label_file.parent / file.name)
