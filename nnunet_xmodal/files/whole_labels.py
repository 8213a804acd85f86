"""Labels of files that hold whole numbers only nearly, such as 1.00000006 for 255 times a scaling of 1/255."""

import numpy as np

NEARLY = 1e-3
"""How far from a whole number a label may be."""


def rounded_labels(voxels: np.ndarray) -> np.ndarray:
    """Round what is within NEARLY of a whole number; all else stays as it is, and so do arrays of integers.

    Args:
        voxels: of any shape.
    """
    if voxels.dtype.kind != "f":
        return voxels
    whole = np.rint(voxels)
    with np.errstate(invalid="ignore"):  # infinity stays what it is
        return np.where(np.abs(voxels - whole) <= NEARLY, whole, voxels)


def cut_labels(voxels: np.ndarray) -> np.ndarray:
    """Return the values that nnU-Net would make another label of: it reads float32 and drops what is behind the point.

    Args:
        voxels: labels as a file holds them, nearly whole.

    Returns:
        `(N,)`, sorted, for example 2.9999998, which nnU-Net takes for 2.
    """
    if voxels.dtype.kind != "f":
        return voxels[:0].ravel()
    values = np.unique(voxels)
    return values[np.trunc(values.astype(np.float32)) != np.rint(values)]
