"""Affine maps as matrices."""

import numpy as np


def applied(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return where a matrix `(4, 4)` takes points `(…, 3)`."""
    return np.asarray(points) @ matrix[:3, :3].T + matrix[:3, 3]
