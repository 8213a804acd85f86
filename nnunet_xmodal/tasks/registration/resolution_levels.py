"""Factors by which the axes of a grid are coarsened, level by level."""

from collections.abc import Sequence

_FEWEST = 8  # voxels along an axis, below which there is little to align


def factors_of_levels(
    shape: Sequence[int], spacing: Sequence[float], levels: Sequence[int] = (4, 2, 1)
) -> list[tuple[int, ...]]:
    """Return factors per axis, coarse to fine: towards isotropic voxels, and never below eight along an axis.

    Args:
        shape: voxels along D, H, W.
        spacing: in mm along them.
        levels: factors of the axis of the smallest voxels.

    Returns:
        `[level][axis]`.
    """
    finest = min(spacing)
    return [
        tuple(max(1, min(round(level * finest / mm), side // _FEWEST)) for side, mm in zip(shape, spacing))
        for level in levels
    ]
