"""The calibration of one case in a worker: bins of every label's probability, and the likelihood by temperature."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_xmodal.comparison.case_cache import keep, kept
from nnunet_xmodal.comparison.case_table import read_label_map
from nnunet_xmodal.comparison.probabilities import check_prediction_of, probabilities_on
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.calibration import (
    Reliability,
    at_temperature,
    judged_box,
    nll_by_temperature,
    reliability,
)
from nnunet_xmodal.evaluation.detection import probability_channel
from nnunet_xmodal.files.dataset_labels import has_regions
from nnunet_xmodal.files.labels import foreground, ignore_label

CURVE = "nll"
"""Key of what is kept of a case's likelihoods."""


@dataclass(frozen=True)
class CalibrationTask:
    """One case of one model.

    Attributes:
        probabilities, prediction, reference: files.
        dataset_json: of the model.
        temperature: that probabilities are measured at.
        target: file that keeps the bins of every label.
        curve: file that keeps the likelihoods at all temperatures; None where nobody asks.
    """

    probabilities: Path
    prediction: Path
    reference: Path
    dataset_json: dict
    temperature: float
    target: Path
    curve: Path | None


def is_kept(task: CalibrationTask, labels: Iterable[str]) -> bool:
    """Return whether everything that a task computes was kept before."""
    curve = task.curve is None or kept(task.curve, [CURVE]) is not None
    return kept(task.target, list(labels)) is not None and curve


def measure(task: CalibrationTask) -> str | None:
    """Write what is measured of a case into the cache; return a fault, so that other cases are looked at as well."""
    try:
        reference, geometry = read_label_map(task.reference, task.dataset_json)
        reference = reference.reshape(-1, *reference.shape[-2:])  # files of one slice may lack z
        spacing = [float(side) for side in geometry["spacing"]][-3:]
        spacing = [1.0] * (3 - len(spacing)) + spacing
        labels, regions = foreground(task.dataset_json), has_regions(task.dataset_json["labels"])
        channels = {label: probability_channel(task.dataset_json, label) for label in labels}
        probabilities = probabilities_on(
            task.probabilities, task.reference, reference.shape, geometry, task.dataset_json
        )
        predicted, _ = read_label_map(task.prediction, task.dataset_json)
        check_prediction_of(task.probabilities, probabilities, task.prediction, predicted, task.dataset_json)
        ignore = ignore_label(task.dataset_json)
        judged = np.ones(reference.shape, bool) if ignore is None else reference != ignore
        masks = {label: np.isin(reference, values) & judged for label, values in labels.items()}
        if task.curve is not None and kept(task.curve, [CURVE]) is None:
            keep({CURVE: {"values": _curve(probabilities, masks, channels, judged, spacing, regions)}}, task.curve)
        content: dict[str, dict] = {}
        for label, mask in masks.items():
            box = judged_box(mask, spacing)
            if box is None:
                content[label] = {}
                continue
            of_all = (slice(None), *box)
            inside = at_temperature(probabilities[of_all], task.temperature, regions)[channels[label]]
            found = reliability(inside[judged[box]], mask[box][judged[box]])
            content[label] = {
                "voxels": found.voxels.tolist(),
                "probability": found.probability.tolist(),
                "positive": found.positive.tolist(),
                "squared_error": found.squared_error,
            }
        keep(content, task.target)
    except XModalError as error:
        return str(error)
    return None


def _curve(
    probabilities: np.ndarray,
    masks: Mapping[str, np.ndarray],
    channels: Mapping[str, int],
    judged: np.ndarray,
    spacing: Sequence[float],
    regions: bool,
) -> list[float]:
    """The likelihoods around everything that is labelled; empty where nothing is."""
    anything = np.logical_or.reduce(list(masks.values()))
    box = judged_box(anything, spacing)
    if box is None:
        return []
    truth = np.zeros((len(probabilities), *anything[box].shape), bool)
    for label, mask in masks.items():
        truth[channels[label]] = mask[box]
    if not regions:
        truth[0] = ~truth[1:].any(0)
    inside, of_all = judged[box], (slice(None), *box)
    return nll_by_temperature(probabilities[of_all][:, inside], truth[:, inside], regions).tolist()


def read_bins(content: Mapping) -> Reliability | None:
    """Return what was kept of a label; None where the reference has none of it."""
    if not content:
        return None
    voxels, probability, positive = (np.array(content[name]) for name in ("voxels", "probability", "positive"))
    return Reliability(voxels, probability, positive, content["squared_error"])
