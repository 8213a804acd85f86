"""nnU-Net's probabilities, on the voxels of a label map's file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.detection import probability_channel, read_probabilities, written_values
from nnunet_xmodal.files.dataset_labels import has_regions
from nnunet_xmodal.files.images import nnunet_reader
from nnunet_xmodal.files.labels import foreground
from nnunet_xmodal.files.nifti import is_nifti
from nnunet_xmodal.geometry.orientation import code_of, turned

_TURNS_TO = "RAS"
"""Of nnU-Net's readers …WithReorient; its `.npz` stay so, and label maps are read as they are stored."""
_MOST_DIFFERING = 0.01
"""Of the labelled voxels; files of one prediction differ where two probabilities are equal, to what a file holds."""


def probabilities_file(model: ModelResults, case: str, flag: str) -> tuple[Path, Path]:
    """Return the file of a case's probabilities, and the prediction that it lies beside.

    Args:
        flag: that asks for them, for the sentence.

    Raises:
        XModalError: if there is none.
    """
    prediction = model.cases[case].prediction
    if prediction is None:
        raise XModalError(f"{flag} needs segmentations, which {model.folder} does not hold: leave it out.")
    file = prediction.with_name(f"{case}.npz")
    if not file.is_file():
        raise XModalError(f"{file} is missing: {flag} needs probabilities, validate again with --val --npz.")
    return file, prediction


def probabilities_on(
    file: Path, label_map: Path, shape: tuple[int, ...], geometry: Mapping, dataset_json: dict
) -> np.ndarray:
    """Read probabilities `(channels, z, y, x)`, along the axes of a label map.

    Args:
        file: nnU-Net's `.npz`.
        label_map: file on the same grid, with the geometry that `files.images.read_image` gives.
        shape: `(z, y, x)` of the label map, z = 1 for one slice.

    Raises:
        XModalError: for probabilities of another grid, or of fewer labels than dataset.json has.
    """
    probabilities = read_probabilities(file)
    direction = np.ravel(geometry.get("direction", ())).tolist()
    if nnunet_reader(label_map, dataset_json).__name__.endswith("WithReorient") and is_nifti(label_map):
        if len(direction) == 9:
            probabilities = turned(probabilities, _TURNS_TO, code_of(direction))
    last = max(probability_channel(dataset_json, label) for label in foreground(dataset_json))
    if len(probabilities) <= last or probabilities.shape[1:] != shape:
        raise XModalError(
            f"{file} holds probabilities {probabilities.shape}, which do not fit dataset.json or the {shape} voxels of "
            f"{label_map}: validate again with --val --npz, or predict again with --save_probabilities."
        )
    return probabilities


def check_prediction_of(
    file: Path, probabilities: np.ndarray, prediction: Path, predicted: np.ndarray, dataset_json: dict
) -> None:
    """Check that a segmentation is what these probabilities say: an earlier validation may have left them behind.

    Where a voxel has a label, its probability is the largest one, or with regions more than one half. Voxels that
    postprocessing took a label from say nothing.

    Args:
        file, prediction: which both come from.
        probabilities: `(channels, z, y, x)`, of `probabilities_on`.
        predicted: label map `(z, y, x)`, or `(y, x)` of one slice.

    Raises:
        XModalError: where more than a hundredth of the labelled voxels has another label.
    """
    predicted = predicted.reshape(-1, *predicted.shape[-2:])
    largest = None if has_regions(dataset_json["labels"]) else probabilities.argmax(0)
    labelled = differing = 0
    for channel, value in enumerate(written_values(dataset_json)):
        here = predicted == value
        if value == 0 or not here.any():
            continue
        says_so = probabilities[channel] > 0.5 if largest is None else largest == channel
        labelled += int(here.sum())
        differing += int((here & ~says_so).sum())
    if differing > _MOST_DIFFERING * labelled:
        raise XModalError(
            f"{file} is of another prediction than {prediction.name}, {differing / labelled:.0%} of whose labelled "
            "voxels have another label in it: validate again with --val --npz, or predict again with "
            "--save_probabilities."
        )
