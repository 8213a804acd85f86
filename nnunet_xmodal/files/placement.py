"""The place of a volume: spacing, origin and direction, which have to be numbers and make a grid with right angles.

All is in x, y, z and in LPS millimetres, as in ITK and DICOM.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunet_xmodal.errors import XModalError

ORTHOGONAL_TO = 1e-4
"""How far products of direction cosines may be from 0 and 1."""


def check_grid(
    file: Path, spacing: Sequence[float] | np.ndarray, origin: Sequence[float] | np.ndarray, direction: np.ndarray
) -> None:
    """Refuse what is no grid; of more than three dimensions the first three count.

    Args:
        spacing, origin: mm, `(D)`.
        direction: cosines of the axes as columns, `(D, D)`.

    Raises:
        XModalError: for numbers that are none or infinite, a spacing that is not positive, and axes that are not at
            right angles.
    """
    sides, first = np.asarray(spacing, float)[:3], np.asarray(origin, float)[:3]
    direction = np.asarray(direction, float)[:3, :3]
    if not (np.isfinite(sides) & (sides > 0)).all():
        raise XModalError(
            f"{file} has the spacing {'×'.join(f'{mm:.4g}' for mm in sides)} mm, which has to be positive along "
            "every axis: correct its header."
        )
    if not (np.isfinite(first).all() and np.isfinite(direction).all()):
        raise XModalError(f"the header of {file} does not say where it lies: it holds NaN or infinity; correct it.")
    # a slice of an oblique volume has two numbers of three for each axis
    if len(sides) == 3 and not np.allclose(direction.T @ direction, np.eye(3), atol=ORTHOGONAL_TO):
        raise XModalError(
            f"the axes of {file}, with direction cosines {direction.round(4).tolist()}, are not three at right angles: "
            "resample it onto a grid whose axes are."
        )


def affine_of(spacing: Sequence[float], origin: Sequence[float], direction: np.ndarray) -> np.ndarray:
    """Return `(4, 4)`, index x, y, z → point in mm, of a three-dimensional grid."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(direction, (3, 3)) * np.asarray(spacing, float)
    affine[:3, 3] = origin
    return affine


def grid_of(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return spacing, origin and direction of an affine `(4, 4)`; the direction is NaN where a spacing is 0."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        direction = affine[:3, :3] / spacing
    return spacing, affine[:3, 3].copy(), direction


def largest_distance(a: np.ndarray, b: np.ndarray, size: Sequence[int]) -> float:
    """Return how far, in mm, two affines `(4, 4)` put a voxel apart at most, in a volume of `size` x, y, z."""
    corners = np.stack(np.meshgrid(*[(0, side - 1) for side in size[:3]], indexing="ij"), -1).reshape(-1, 3)
    points = [corners @ affine[:3, :3].T + affine[:3, 3] for affine in (a, b)]
    return float(np.linalg.norm(points[0] - points[1], axis=1).max())
