"""The moving image, resampled once by a rigid transform.

The transform T maps moving points onto fixed ones, so the value at a fixed point x is read at T⁻¹x:

    warped(x) = moving(T⁻¹x)

Sampling positions are those of `F.affine_grid(align_corners=False)`: its coordinate runs from −1 to 1 between the outer
*faces* of the first and the last voxel, so that n = i_centred·2/N and millimetres from the centre of the grid are
n·N·spacing/2. This holds for an axis of a single voxel as well, where the centres of the outer voxels coincide.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from nnunet_xmodal.geometry.rigid_transform import inverse
from nnunet_xmodal.numerics import full_precision


def warp(
    moving: torch.Tensor,
    matrix: torch.Tensor,
    spacing: torch.Tensor,
    *,
    mode: str = "bilinear",
    padding: str = "zeros",
    size: Sequence[int] | None = None,
    spacing_onto: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return moving(T⁻¹x) at every voxel x of a grid around the same centre; differentiable in image and matrix.

    Args:
        moving: `(B, C, D, H, W)`, a floating type; labels too, as numbers.
        matrix: T, `(B, 4, 4)` or `(4, 4)`, in mm about the centre of the grid.
        spacing: of the moving image, `(B, 3)` or `(3)`, in mm along D, H, W.
        mode: "bilinear", which is trilinear for volumes, or "nearest" for labels.
        padding: beyond the outer voxel centres "zeros" fades to zero within a voxel, "border" repeats the last one.
        size: voxels of the grid along its D, H, W; the moving image's if None. A moving image that reaches beyond the
            grid has something to show where the transform brings its surroundings in.
        spacing_onto: of the grid; the moving image's if None.

    Returns:
        `(B, C, *size)` in the type of `moving`; float16 and bfloat16 are computed in float32.
    """
    batch, onto = len(moving), list(moving.shape[2:] if size is None else size)
    exact = torch.promote_types(moving.dtype, torch.float32)
    with full_precision(moving):
        half_onto = _half_sides(onto, (spacing if spacing_onto is None else spacing_onto).to(matrix))
        half_moving = _half_sides(moving.shape[2:], spacing.to(matrix))
        back = inverse(matrix)[..., :3, :]  # (B) 3 4
        from_normalised = torch.cat((half_onto, torch.ones_like(half_onto[..., :1])), -1)  # (B) 4
        theta = back * from_normalised[..., None, :] / half_moving[..., :, None]  # (B) 3 4
        grid = F.affine_grid(theta.expand(batch, 3, 4).to(exact), [batch, 1, *onto], align_corners=False)  # B D H W 3
        warped = F.grid_sample(moving.to(exact), grid, mode=mode, padding_mode=padding, align_corners=False)
    return warped.to(moving.dtype)


def _half_sides(size: Sequence[int], spacing: torch.Tensor) -> torch.Tensor:
    """mm from the centre to the faces along x, y, z, `(B, 3)` or `(3)`."""
    return (spacing.new_tensor(size) * spacing).flip(-1) / 2
