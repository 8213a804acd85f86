"""Features on another grid, in one, two or three dimensions."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resized(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return features of another size, interpolated linearly.

    Args:
        x: `(B, C, *spatial)`.
        size: of the other grid, which covers as much: half voxels at its border lie where they lay.

    Returns:
        `(B, C, *size)`, x itself where it has that size.
    """
    size = tuple(size)
    return x if tuple(x.shape[2:]) == size else F.interpolate(x, size, mode=_LINEAR[len(size)], align_corners=False)
