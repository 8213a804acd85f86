"""Overlap of two masks from numbers of voxels.

With P the voxels of the prediction, R those of the reference, per case and label or region:

- Dice = 2|P∩R| / (|P|+|R|), IoU = |P∩R| / |P∪R|
- sensitivity = |P∩R| / |R|, precision = |P∩R| / |P|
- specificity = share of the voxels outside of R that are outside of P
- VOE, volumetric overlap error, = 1 − IoU
- RVD, relative volume difference, = (|P|−|R|) / |R|, signed; abs_RVD = |RVD|

These are the standard definitions. Three of those printed by Zhang et al. (Cross-Modal Self-Attention Distillation,
2020) are misprints: Eq. 12 is the Dice loss instead of the Dice coefficient, Eq. 14 divides by the prediction instead
of the reference, and Eq. 15 is the accuracy.

A quotient 0/0 is NaN: sensitivity and RVD where the reference is empty, precision where the prediction is, Dice, IoU
and VOE where both are. Dice and IoU are nnU-Net's to the last bit.
"""


def voxel_metrics(tp: int, fp: int, fn: int, tn: int) -> dict[str, float]:
    """Compute the metrics above, as fractions; NaN where the denominator is 0."""
    predicted, reference = tp + fp, tp + fn
    iou = _ratio(tp, tp + fp + fn)
    rvd = _ratio(predicted - reference, reference)
    return {
        "Dice": _ratio(2 * tp, predicted + reference),
        "IoU": iou,
        "sensitivity": _ratio(tp, reference),
        "precision": _ratio(tp, predicted),
        "specificity": _ratio(tn, tn + fp),
        "VOE": 1 - iou,
        "RVD": rvd,
        "abs_RVD": abs(rvd),
    }


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
