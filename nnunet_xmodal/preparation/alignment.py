"""The rigid transform between two scans of a session, by `tasks.registration.mutual_information`."""

import numpy as np
import SimpleITK as sitk
import torch

from nnunet_xmodal.geometry.grid_chain import euler_transform
from nnunet_xmodal.tasks.registration.mutual_information import MutualInformation

_FINEST_MM = 1.0
"""Voxels are averaged up to this side: a scan says little about a rigid transform in less."""


def align(fixed: sitk.Image, moved: sitk.Image) -> np.ndarray:
    """Find the rigid transform between two images.

    Args:
        fixed, moved: on one grid; `moved` is resampled with what is known so far.

    Returns:
        `(4, 4)`, fixed → moved point in physical mm.

    Raises:
        XModalError: for images that do not overlap.
    """
    factors = [max(1, round(_FINEST_MM / mm)) for mm in fixed.GetSpacing()]
    fixed, moved = (sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), factors) for image in (fixed, moved))
    spacing = fixed.GetSpacing()[::-1]
    base = torch.eye(4, dtype=torch.float64)
    register = MutualInformation(threads=1)
    registered = register(sitk.GetArrayFromImage(fixed), sitk.GetArrayFromImage(moved), spacing, base)
    found = registered.matrix.numpy()  # moving → fixed, of the grid
    grid = grid_to_physical(fixed)
    return grid @ np.linalg.inv(found) @ np.linalg.inv(grid)


def grid_to_physical(image: sitk.Image) -> np.ndarray:
    """Return `(4, 4)`: mm along the image's axes x, y, z from the centre of its grid → physical point in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3))
    matrix[:3, 3] = image.TransformContinuousIndexToPhysicalPoint([(side - 1) / 2 for side in image.GetSize()])
    return matrix


def as_transform(matrix: np.ndarray, fixed: sitk.Image) -> sitk.Euler3DTransform:
    """Return a rigid `(4, 4)` about the centre of the fixed grid, for a file that SimpleITK and 3D Slicer read."""
    return euler_transform(matrix, grid_to_physical(fixed)[:3, 3].tolist())
