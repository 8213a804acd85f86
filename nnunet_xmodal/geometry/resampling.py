"""Onto one grid: linear for images, nearest for labels, nothing where the grids agree."""

from typing import Literal

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.geometry.affine import applied
from nnunet_xmodal.geometry.volume_grid import index_to_physical, lattice, to_index, to_physical

SAME_TO = 1e-2
"""Of a voxel: how far the corners of two grids may be apart that are one."""

Interpolation = Literal["linear", "nearest"]
_INTERPOLATORS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """Tell whether two images have the same voxels, but for rounding of their headers."""
    if a.GetSize() != b.GetSize():
        return False
    last = np.array(a.GetSize()) - 1.0
    corners = np.stack(np.meshgrid(*[(0.0, side) for side in last], indexing="ij"), -1).reshape(-1, 3)
    moved = to_index(b, to_physical(a, corners))
    return bool(np.abs(moved - corners).max() < SAME_TO)


def coverage(image: sitk.Image, reference: sitk.Image, matrix: np.ndarray | None = None) -> float:
    """Return the part of the reference's extent, 0 to 1, that the image's covers.

    Args:
        matrix: reference → image point in mm, `(4, 4)`; the identity if None.
    """
    sides = np.array(reference.GetSize(), float)
    points = lattice(index_to_physical(reference), np.zeros(3), sides - 1)
    if matrix is not None:
        points = applied(matrix, points)
    index = to_index(image, points)
    inside = ((index >= -0.5 - SAME_TO) & (index <= np.array(image.GetSize()) - 0.5 + SAME_TO)).all(-1)
    return float(inside.mean())


def onto_grid(
    image: sitk.Image,
    reference: sitk.Image,
    interpolation: Interpolation,
    matrix: np.ndarray | None = None,
    outside: float = 0.0,
) -> sitk.Image:
    """Resample an image onto the grid of another one; a copy where the grids agree.

    Args:
        reference: gives the grid.
        matrix: reference → image point in mm, `(4, 4)`; the identity if None.
        outside: value where the image has none.

    Returns:
        With the reference's header. An image that lies on the grid already keeps its voxels and their type; one that is
        interpolated linearly is float32.
    """
    if matrix is None and same_grid(image, reference):
        image = sitk.Image(image)
        image.CopyInformation(reference)
        return image
    pixel = sitk.sitkFloat32 if interpolation == "linear" else image.GetPixelID()
    return sitk.Resample(image, reference, affine(matrix), _INTERPOLATORS[interpolation], outside, pixel)


def affine(matrix: np.ndarray | None) -> sitk.Transform:
    """Return `(4, 4)` in mm as a transform of points."""
    if matrix is None:
        return sitk.Transform(3, sitk.sitkIdentity)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(np.asarray(matrix, float)[:3, :3].ravel().tolist())
    transform.SetTranslation(np.asarray(matrix, float)[:3, 3].tolist())
    return transform


def outside_value(channel: str, image: sitk.Image) -> float:
    """Return the value that stands beyond the field of view: 0, and air in a channel that nnU-Net takes for CT by its
    name.
    """
    return float(sitk.MinimumMaximum(image)[0]) if channel.casefold() == "ct" else 0.0
