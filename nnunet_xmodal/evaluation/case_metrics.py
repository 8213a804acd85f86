"""Every segmentation metric of one case, for each of its labels or regions.

Definitions are in `metrics.py`, what is behind them in `overlap.py`, `surface_distance.py` and `lesions.py`. Where a
metric is undefined it is NaN; a rule for empty labels comes afterwards (`empty_labels.py`), so that results can be kept
and shown under either rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.lesions import lesion_metrics
from nnunet_xmodal.evaluation.metrics import SEGMENTATION_METRICS
from nnunet_xmodal.evaluation.overlap import voxel_metrics
from nnunet_xmodal.evaluation.surface_distance import surface_distances
from nnunet_xmodal.geometry.bounding_box import bounding_box

NO_THICKNESS = 999.0
"""What nnU-Net's readers give as the spacing of the third axis of a 2D image."""


@dataclass(frozen=True)
class MetricSettings:
    """The choices that the metrics leave open.

    Attributes:
        nsd_tolerance_mm: distance up to which a surface voxel counts as right.
        lesion_iou: IoU from which two lesions may be matched; 0.1 as in PI-CAI.

    Raises:
        XModalError: for a tolerance that is negative or not finite, or an IoU outside of (0, 1].
    """

    nsd_tolerance_mm: float = 1.0
    lesion_iou: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.nsd_tolerance_mm < float("inf"):
            raise XModalError(f"The NSD tolerance is {self.nsd_tolerance_mm} mm: give a finite number, 0 or more.")
        if not 0 < self.lesion_iou <= 1:
            raise XModalError(f"The IoU for matching lesions is {self.lesion_iou}: give a number above 0 and up to 1.")


def case_metrics(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    labels: Mapping[str, tuple[int, ...]],
    ignore_label: int | None = None,
    settings: MetricSettings | None = None,
) -> dict[str, dict[str, float]]:
    """Compute every metric of every label.

    Voxels whose reference is the ignore label are left out of both masks and of the true negatives, as nnU-Net does. A
    mask that reaches into them gets a surface where they begin.

    Args:
        prediction: label map `(z, y, x)`, or of fewer dimensions.
        reference: label map on the same grid.
        spacing: of a voxel along the axes of the arrays, in mm. A 2D image, which nnU-Net reads as 1×H×W with 999 for
            the missing axis, has its distances measured in the plane and its volumes as if it were 1 mm thick.
        labels: name → values that belong to it: one for a label, several for a region. Regions may overlap.

    Returns:
        Name of the label → name of the metric → value, with the metrics of SEGMENTATION_METRICS in their order.

    Raises:
        XModalError: when the two label maps differ in shape.
    """
    if prediction.shape != reference.shape:
        raise XModalError(
            f"The prediction has {_size(prediction)} voxels, the reference {_size(reference)}: "
            "compare them on one grid."
        )
    settings = settings or MetricSettings()
    n_voxels = reference.size
    if ignore_label is not None:
        n_voxels -= int(np.count_nonzero(reference == ignore_label))
    if not any(0 in values for values in labels.values()):
        foreground = prediction != 0
        foreground |= reference != 0
        box = bounding_box(foreground, margin=1)
        del foreground
        prediction, reference = prediction[box], reference[box]
    counted = None if ignore_label is None else reference != ignore_label

    found = {}
    for name, values in labels.items():
        predicted, true = _mask(prediction, values), _mask(reference, values)
        if counted is not None:
            predicted, true = predicted & counted, true & counted
        found[name] = _label_metrics(predicted, true, spacing, n_voxels, settings)
    return found


def _mask(label_map: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    mask = label_map == values[0]
    for value in values[1:]:
        mask |= label_map == value
    return mask


def voxel_volume_ml(spacing: Sequence[float]) -> float:
    """Return how many ml a voxel has, by its sides in mm; of a 2D image it is 1 mm thick."""
    return float(np.prod([1.0 if side == NO_THICKNESS else side for side in spacing])) / 1000


def _label_metrics(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float], n_voxels: int, settings: MetricSettings
) -> dict[str, float]:
    """Compute all metrics of two bool masks; n_voxels are those of the whole image, wherever the masks were cut."""
    # the margin keeps a lesion of one slice from looking like an image of one slice
    box = bounding_box(prediction | reference, margin=1)
    prediction, reference = prediction[box], reference[box]
    n_predicted, n_reference, tp = (
        int(np.count_nonzero(mask)) for mask in (prediction, reference, prediction & reference)
    )
    fp, fn = n_predicted - tp, n_reference - tp
    distances = surface_distances(prediction, reference, spacing)
    voxel_ml = voxel_volume_ml(spacing)
    values = {
        **voxel_metrics(tp, fp, fn, n_voxels - tp - fp - fn),
        "HD95": distances.hd95,
        "ASSD": distances.assd,
        "NSD": distances.nsd(settings.nsd_tolerance_mm),
        "volume_ml": n_predicted * voxel_ml,
        "reference_volume_ml": n_reference * voxel_ml,
        **lesion_metrics(prediction, reference, settings.lesion_iou),
    }
    return {name: values[name] for name in SEGMENTATION_METRICS}


def _size(label_map: np.ndarray) -> str:
    return "×".join(map(str, label_map.shape))
