"""The surroundings of a grid: what a transform of the moving image can bring onto it.

A moving image that is cut to the grid before it is moved shows its cut edges afterwards: wedges of nothing that tell
the transform, whatever the image holds. A network learns to read them, and finds none at prediction, where the whole
moving image is resampled first. So the moving image is kept within a box around the grid that no transform leaves: any
rotation about the grid's centre, and a shift by 20 mm.
"""

from collections.abc import Sequence
from math import ceil
from typing import TypeVar

import numpy as np
import torch

FARTHEST = 20.0
"""mm, the largest SRE of starts, by which the centre of the grid is displaced about as far at most."""

_Array = TypeVar("_Array", np.ndarray, torch.Tensor)


def voxels_around(size: Sequence[int], spacing: Sequence[float], farthest: float = FARTHEST) -> list[int]:
    """Return how many voxels surround a grid on both sides of each axis.

    Args:
        size: voxels of the grid along D, H, W.
        spacing: in mm along them.
        farthest: shift in mm that has to be covered, beside every rotation about the centre.
    """
    half = (np.array(size) - 1) / 2 * spacing
    beyond = np.linalg.norm(half) + farthest - half
    return [ceil(mm / voxel) + 1 for mm, voxel in zip(beyond, spacing)]  # 1: for the interpolation


def amid(image: _Array, size: Sequence[int]) -> _Array:
    """Return the grid amid an image with its surroundings, `(…, D', H', W')` → `(…, *size)`."""
    leading = image.ndim - len(size)
    cut = [slice(None)] * leading
    cut += [slice((whole - side) // 2, (whole - side) // 2 + side) for whole, side in zip(image.shape[leading:], size)]
    return image[tuple(cut)]
