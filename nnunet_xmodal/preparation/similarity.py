"""Mutual information of two images on one grid: what tells in the report whether an alignment helped."""

import numpy as np

_BINS = 32


def mutual_information(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    """Return I(A; B) = Σ p(a, b)·log(p(a, b) / (p(a)·p(b))) in nats, of a joint histogram of 32 × 32 bins.

    Args:
        a, b: `(z, y, x)`; bins reach from the 0.5th to the 99.5th percentile of each, what lies beyond is in the last.
        inside: bool `(z, y, x)`, the voxels that count; NaN where there are none.
    """
    if not inside.any():
        return float("nan")
    bins = [_binned(image[inside]) for image in (a, b)]
    joint = np.bincount(bins[0] * _BINS + bins[1], minlength=_BINS**2).reshape(_BINS, _BINS) / inside.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / independent[there])).sum())


def _binned(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (0.5, 99.5))
    scaled = (values.astype(np.float64) - low) * (_BINS / max(high - low, 1e-12))
    return np.clip(scaled, 0, _BINS - 1).astype(np.intp)
