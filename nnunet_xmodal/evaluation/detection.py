"""Lesion AP, FROC and patient AUROC from probabilities, as in the PI-CAI challenge (Saha et al., 2024).

All of it is picai_eval, an optional dependency (`pip install "nnunet-xmodal[detection]"`). A case goes through:

1. Lesion candidates from the probabilities of one label or region: up to five, each a component above 1/2.5 of its own
   highest probability, which is its confidence; components of ten voxels or fewer are dropped, and so are those that
   touch an earlier one. This is report_guided_annotation's `extract_lesion_candidates` with the second version of its
   dynamic threshold: the first, by mistake, ends at the first component that is too small.
2. Candidates are matched one to one with the reference's lesions (26 neighbours) at IoU ≥ 0.1. One that overlaps
   enough, but whose lesion another candidate has taken, is neither right nor wrong.
3. The patient's confidence is that of the most certain candidate, 0 without any.

`detect_case` does this and returns little, so that it can run in workers; `pool_cases` makes numbers of many cases.
"""

import contextlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.bounding_box import bounding_box

if TYPE_CHECKING:
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

MIN_OVERLAP_IOU = 0.1

FALSE_POSITIVES_PER_CASE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Where the FROC curve is read: the seven points of LUNA16."""

# Extraction ends when nothing reaches a probability of 0.01, so that no candidate goes below 0.01 / 2.5 = 0.004.
_LOWEST_PROBABILITY = 0.0039


@dataclass(frozen=True)
class DetectedCase:
    """The lesions of one case, matched with those of its reference.

    Attributes:
        lesions: picai_eval's triples (1 for a lesion of the reference or 0 for a false positive, confidence or 0 for a
            lesion that was missed, IoU).
        confidence: that the patient has a lesion.
        positive: whether the reference has a lesion.
    """

    lesions: tuple[tuple[int, float, float], ...]
    confidence: float
    positive: bool


@dataclass(frozen=True)
class Detection:
    """Detection over many cases.

    Attributes:
        AP: average precision of the lesion candidates; NaN without lesions in the references.
        AUROC: of the patients' confidences; NaN unless there are patients with and without lesions.
        froc: `(N, 2)`: false positives per case and sensitivity, from the strictest threshold to the loosest, beginning
            with (0, 0); sensitivity is NaN without lesions.
        sensitivity: false positives per case → sensitivity at no more than that.
        cases: how many.
        positive_cases: with a lesion in the reference.
        lesions: of the references.
        candidates: those that count, right or wrong.
    """

    AP: float
    AUROC: float
    froc: np.ndarray
    sensitivity: Mapping[float, float]
    cases: int
    positive_cases: int
    lesions: int
    candidates: int

    def numbers(self) -> dict[str, float]:
        """Return a row of a table: `AP`, `AUROC`, `sensitivity_at_0.125_FP`, …, and the counts."""
        return {
            "AP": self.AP,
            "AUROC": self.AUROC,
            **{f"sensitivity_at_{false_positives:g}_FP": value for false_positives, value in self.sensitivity.items()},
            "cases": self.cases,
            "positive_cases": self.positive_cases,
            "lesions": self.lesions,
            "candidates": self.candidates,
        }


def detect_case(probability: np.ndarray, reference: np.ndarray) -> DetectedCase:
    """Find the lesions of one case and match them with those of its reference.

    Args:
        probability: `(z, y, x)`, of one label or region; 0 where nothing is to be judged, such as at an ignore label.
        reference: bool `(z, y, x)` on the same grid.

    Raises:
        XModalError: without picai_eval, or when the shapes differ.
    """
    evaluate_case, _, extract_lesion_candidates = _picai()
    if probability.shape != reference.shape:
        raise XModalError(
            f"The probabilities have shape {probability.shape}, the reference {reference.shape}: "
            "compare them on one grid."
        )
    # picai_eval passes over the whole volume for every pair of lesions: what is nowhere a candidate goes first
    box = bounding_box((probability >= _LOWEST_PROBABILITY) | reference)
    probability, reference = probability[box], reference[box]
    if not probability.size:
        return DetectedCase((), 0.0, False)
    candidates, _, _ = extract_lesion_candidates(probability.astype(np.float32), threshold="dynamic-v2")
    lesions, confidence, _, _ = evaluate_case(candidates, reference.astype(np.int32), min_overlap=MIN_OVERLAP_IOU)
    return DetectedCase(
        lesions=tuple((int(is_lesion), float(score), float(iou)) for is_lesion, score, iou in lesions),
        confidence=float(confidence),
        positive=bool(reference.any()),
    )


def pool_cases(
    cases: Iterable[DetectedCase], false_positives_per_case: Iterable[float] = FALSE_POSITIVES_PER_CASE
) -> Detection:
    """Compute the numbers for many cases, each of them counting once.

    Raises:
        XModalError: without picai_eval, or without cases.
    """
    _, Metrics, _ = _picai()
    cases = list(cases)
    if not cases:
        raise XModalError("There is no case to detect lesions in.")
    scores = [score for case in cases for _, score, _ in case.lesions if score > 0]
    metrics = Metrics(
        lesion_results={index: list(case.lesions) for index, case in enumerate(cases)},
        case_target={index: int(case.positive) for index, case in enumerate(cases)},
        case_pred={index: case.confidence for index, case in enumerate(cases)},
        # The last threshold stands for the lesions missed at every threshold, and picai_eval drops its counts. Its own
        # thresholds end with a candidate's where no lesion was missed, which would cost that candidate.
        thresholds=np.append(np.unique(scores)[::-1], 0.0),
    )
    positive = sum(case.positive for case in cases)
    curve = np.stack([metrics.lesion_FPR, metrics.lesion_TPR], axis=1)[:-1]  # the last point lies at infinity
    return Detection(
        AP=float(metrics.AP) if positive else float("nan"),
        AUROC=float(metrics.auroc) if 0 < positive < len(cases) else float("nan"),
        froc=np.concatenate([[[0.0, 0.0 if positive else np.nan]], curve]),
        sensitivity={
            limit: float(metrics.lesion_TPR_at_FPR(limit)) if positive else float("nan")
            for limit in false_positives_per_case
        },
        cases=len(cases),
        positive_cases=positive,
        lesions=metrics.num_lesions,
        candidates=len(scores),
    )


def read_probabilities(file: str | Path) -> np.ndarray:
    """Read probabilities `(channels, z, y, x)` on the image's grid, from nnU-Net's `.npz` beside a segmentation.

    Raises:
        XModalError: when the file holds no probabilities, or cannot be read.
    """
    try:
        with np.load(file) as arrays:
            probabilities = arrays["probabilities"]
        if probabilities.ndim != 4 or not np.isfinite(probabilities).all():
            raise ValueError(f"an array {probabilities.shape}, or NaN in it")
        return probabilities
    except (KeyError, IndexError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise XModalError(
            f"{file} holds no probabilities of nnU-Net ({error}): run the validation again with --npz, "
            "or the prediction with --save_probabilities."
        ) from error


def probability_channel(dataset_json: Mapping, label: str) -> int:
    """Return the channel of nnU-Net's probabilities for a label of dataset.json, trained with labels or regions.

    With labels, channel 0 is the background; with regions there is no channel for it.
    """
    manager = _label_manager(dataset_json)
    values = dataset_json["labels"][label]
    if manager.has_regions:
        return manager.foreground_regions.index(tuple(values) if isinstance(values, list) else values)
    return manager.all_labels.index(int(np.squeeze(values)))


def written_values(dataset_json: Mapping) -> list[int]:
    """Return the value that nnU-Net writes into a label map for each channel of its probabilities."""
    manager = _label_manager(dataset_json)
    return list(manager.regions_class_order if manager.has_regions else manager.all_labels)


def _label_manager(dataset_json: Mapping) -> "LabelManager":
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    return LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))


def _picai() -> tuple[Callable, type, Callable]:
    """evaluate_case, Metrics and extract_lesion_candidates, without the greetings that both packages print."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from picai_eval.eval import evaluate_case
            from picai_eval.metrics import Metrics
            from report_guided_annotation import extract_lesion_candidates
    except ImportError as error:
        raise XModalError(
            f'Lesion AP, FROC and AUROC need picai_eval ({error}): pip install "nnunet-xmodal[detection]".'
        ) from error
    return evaluate_case, Metrics, extract_lesion_candidates
