"""Are probabilities right? Of the voxels that a model gives a label with 70 %, seven in ten should have it.

Everything is about one label against the rest, and about the voxels around its reference: most of an image is
background that no model doubts, and would hide what is wrong in the few voxels that matter (Mehrtash et al., IEEE TMI
39, 2020, judge within boxes as well). The expected calibration error (Naeini et al., AAAI 2015) is that of the label's
probability in 15 bins of equal width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_xmodal.evaluation.case_metrics import NO_THICKNESS
from nnunet_xmodal.geometry.bounding_box import bounding_box

BINS = 15
MARGIN_MM = 10.0
"""How far around a reference voxels are judged."""

TEMPERATURES = np.geomspace(0.1, 10, 81)
"""Among which the best one is looked for, and then between its neighbours."""

_SMALLEST = 1e-12  # probability, so that its logarithm is a number


@dataclass(frozen=True)
class Reliability:
    """Sums over the judged voxels of a case or of several, by bin of the predicted probability.

    Attributes:
        voxels: `(15,)`, how many.
        probability: `(15,)`, sum of the predicted probabilities.
        positive: `(15,)`, how many have the label in the reference.
        squared_error: sum over all bins of (probability − label)².
    """

    voxels: np.ndarray
    probability: np.ndarray
    positive: np.ndarray
    squared_error: float

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(
            self.voxels + other.voxels,
            self.probability + other.probability,
            self.positive + other.positive,
            self.squared_error + other.squared_error,
        )

    @property
    def ece(self) -> float:
        """Return Σ over bins of its share of the voxels · |mean probability − share that has the label|."""
        total = self.voxels.sum()
        return float(np.abs(self.probability - self.positive).sum() / total) if total else float("nan")

    @property
    def brier(self) -> float:
        """Return the mean of (probability − label)² (Brier, Monthly Weather Review 78, 1950)."""
        total = self.voxels.sum()
        return float(self.squared_error / total) if total else float("nan")


def reliability(probability: np.ndarray, label: np.ndarray) -> Reliability:
    """Sort voxels by their predicted probability.

    Args:
        probability: of a label, any shape.
        label: bool of the same shape, whether the reference has it.
    """
    p, y = probability.ravel().astype(np.float64), label.ravel()
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    return Reliability(
        voxels=np.bincount(bins, minlength=BINS),
        probability=np.bincount(bins, weights=p, minlength=BINS),
        positive=np.bincount(bins, weights=y, minlength=BINS),
        squared_error=float(np.square(p - y).sum()),
    )


def judged_box(reference: np.ndarray, spacing: Sequence[float]) -> tuple[slice, ...] | None:
    """Return the box around a bool mask `(z, y, x)` and `MARGIN_MM` on every side; None where the mask is empty.

    Args:
        spacing: mm along the axes; nothing is added along the axis that a 2D image has not.
    """
    if not reference.any():
        return None
    margins = [0 if side == NO_THICKNESS else round(MARGIN_MM / side) for side in spacing]
    box = zip(bounding_box(reference), margins)
    return tuple(slice(max(0, inside.start - margin), inside.stop + margin) for inside, margin in box)


def at_temperature(probabilities: np.ndarray, temperature: float, regions: bool) -> np.ndarray:
    """Return what probabilities `(K, ...)` become when their logits are divided by a temperature; 1 changes nothing.

    A softmax forgets a constant that all logits share, so that the logarithms of its results serve as logits.

    Args:
        regions: whether each of the K has a probability of its own, a sigmoid, in the place of a softmax.
    """
    if temperature == 1:
        return probabilities
    p = np.clip(probabilities.astype(np.float64), _SMALLEST, 1 if not regions else 1 - 1e-7)
    if regions:
        return 1 / (1 + ((1 - p) / p) ** (1 / temperature))
    powers = p ** (1 / temperature)
    return powers / powers.sum(0)


def nll_by_temperature(probabilities: np.ndarray, truth: np.ndarray, regions: bool) -> np.ndarray:
    """Return the mean negative log-likelihood of the reference at each of `TEMPERATURES`, in nats.

    Args:
        probabilities: `(K, N)`, of N voxels.
        truth: bool `(K, N)`, which of the K a voxel has: exactly one of them, with regions any.
        regions: see `at_temperature`.
    """
    curve = []
    for temperature in TEMPERATURES:
        p = np.clip(at_temperature(probabilities, float(temperature), regions), _SMALLEST, 1)
        found = np.where(truth, p, np.clip(1 - p, _SMALLEST, 1)) if regions else np.where(truth, p, 1)
        curve.append(-np.log(found).sum(0).mean())
    return np.array(curve)


def best_temperature(curves: Sequence[np.ndarray]) -> float:
    """Return the temperature with the lowest mean of some cases' curves, each case counting once.

    Args:
        curves: of `nll_by_temperature`.

    Returns:
        The minimum of the parabola through the lowest point and its neighbours, in the logarithm of the temperature.
    """
    mean = np.mean(curves, 0)
    lowest = int(mean.argmin())
    if lowest in (0, len(mean) - 1):
        return float(TEMPERATURES[lowest])
    before, at, after = mean[lowest - 1 : lowest + 2]
    bend = before - 2 * at + after
    shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
    step = np.log(TEMPERATURES[1] / TEMPERATURES[0])
    return float(TEMPERATURES[lowest] * np.exp(shift * step))
