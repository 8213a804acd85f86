"""The inside of a mask, also of one that was resampled linearly."""

import numpy as np

INSIDE_FROM = 0.5
"""Of a voxel's share or probability."""


def inside_mask(voxels: np.ndarray) -> np.ndarray:
    """Return where a mask is 0.5 or more, bool of the same shape; of integers that is from 1 on."""
    return np.asarray(voxels) >= INSIDE_FROM
