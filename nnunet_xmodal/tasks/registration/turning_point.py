"""The point about which a network's six numbers turn.

Here it is the centre of the grid. The paper's published code has the corner of the volume, its first voxel: there a
degree moves the organ by about a millimetre, so that starts of a given SRE are shifts more than rotations. That is an
easier task (see `documentation/methods/registration.md`), and another one: starts and six numbers of one reading mean
nothing in the other. Matrices are in mm about the centre of the grid in both.
"""

from collections.abc import Sequence

import torch

from nnunet_xmodal.geometry import rigid_transform


def turning_point(size: Sequence[int], spacing: torch.Tensor, about_corner: bool) -> torch.Tensor:
    """Return the point in mm from the centre of the grid, x y z, `(3)` or `(B, 3)` as the spacing.

    Args:
        size: voxels of the grid along D, H, W.
        spacing: `(3)` or `(B, 3)`, mm along them.
        about_corner: the centre of the first voxel; else the centre of the grid.
    """
    if not about_corner:
        return torch.zeros_like(spacing)
    return -((spacing.new_tensor(size) - 1) / 2 * spacing).flip(-1)


def matrix_about(parameters: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Return the matrix in mm about the centre of the grid, `(…, 4, 4)`, of six numbers that turn about a point.

    Args:
        parameters: `(…, 6)` in mm and degrees.
        point: `(3)` or `(…, 3)` in mm from the centre of the grid.
    """
    return rigid_transform.about(rigid_transform.matrix(parameters), -point.to(parameters))


def parameters_about(matrix: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Return the six numbers `(…, 6)` of a matrix, turning about a point: the inverse of `matrix_about`."""
    return rigid_transform.parameters(rigid_transform.about(matrix, point.to(matrix)))
