"""The moving image, resampled once by a rigid transform.

The transform T maps moving points onto fixed ones, so the value at a fixed point x is read at T⁻¹x:

    warped(x) = moving(T⁻¹x)

Sampling positions are those of `F.affine_grid(align_corners=False)`: its coordinate runs from −1 to 1 between the outer
*faces* of the first and the last voxel, so that n = i_centred·2/N and millimetres from the centre of the grid are
n·N·spacing/2. This holds for an axis of a single voxel as well, where the centres of the outer voxels coincide.
"""

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
) -> torch.Tensor:
    """Return moving(T⁻¹x) at every voxel x of the same grid; differentiable in image and matrix.

    Args:
        moving: `(B, C, D, H, W)`, a floating type; labels too, as numbers.
        matrix: T, `(B, 4, 4)` or `(4, 4)`, in mm about the centre of the grid.
        spacing: `(B, 3)` or `(3)`, in mm along D, H, W.
        mode: "bilinear", which is trilinear for volumes, or "nearest" for labels.
        padding: beyond the outer voxel centres "zeros" fades to zero within a voxel, "border" repeats the last one.

    Returns:
        `(B, C, D, H, W)` in the type of `moving`; float16 and bfloat16 are computed in float32.
    """
    batch, *_, depth, height, width = moving.shape
    exact = torch.promote_types(moving.dtype, torch.float32)
    with full_precision(moving):
        sides = matrix.new_tensor((width, height, depth))  # x y z
        half = sides * spacing.to(matrix).flip(-1) / 2  # (B) 3, mm from the centre to the faces
        back = inverse(matrix)[..., :3, :]  # (B) 3 4
        from_normalised = torch.cat((half, torch.ones_like(half[..., :1])), -1)  # (B) 4
        theta = back * from_normalised[..., None, :] / half[..., :, None]  # (B) 3 4
        grid = F.affine_grid(
            theta.expand(batch, 3, 4).to(exact), [batch, 1, depth, height, width], align_corners=False
        )  # B D H W 3
        warped = F.grid_sample(moving.to(exact), grid, mode=mode, padding_mode=padding, align_corners=False)
    return warped.to(moving.dtype)
