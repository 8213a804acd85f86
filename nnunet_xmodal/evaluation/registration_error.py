"""How far a rigid registration is from the truth: on an organ's surface, as translation and rotation, as overlap."""

import torch

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import sre
from nnunet_xmodal.geometry.warp import warp

DIRECTIONS = {
    "SRE_mm": "lower",
    "translation_error_mm": "lower",
    "rotation_error_deg": "lower",
    "Dice": "higher",
}


def registration_error(
    matrix: torch.Tensor, points: torch.Tensor, truth: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Return what is left of T·T_gt⁻¹, which is the identity for a perfect registration.

    Args:
        matrix: T, `(…, 4, 4)`, moving → fixed, in mm about the centre of the grid.
        points: of the organ's surface in the fixed image, `(N, 3)` in mm.
        truth: T_gt, `(4, 4)` or as T; the identity if None, as in aligned data.

    Returns:
        `(…)` each: SRE_mm; translation_error_mm, by how much the centre of the grid is displaced;
        rotation_error_deg, the angle about whatever axis.
    """
    left = matrix if truth is None else matrix @ rigid_transform.inverse(truth)
    return {
        "SRE_mm": sre(matrix, points.expand(*matrix.shape[:-2], *points.shape), truth=truth),
        "translation_error_mm": left[..., :3, 3].norm(dim=-1),
        "rotation_error_deg": rigid_transform.rotation_angle(left),
    }


def warped_dice(
    fixed_label: torch.Tensor, moving_label: torch.Tensor, matrix: torch.Tensor, spacing: torch.Tensor
) -> torch.Tensor:
    """Return the Dice of the fixed label and of the moving one behind T, where its trilinear interpolation is ≥ ½.

    Args:
        fixed_label, moving_label: `(1, D, H, W)`, 0 or 1.
        matrix: T, `(K, 4, 4)`.
        spacing: `(3)`, mm along D, H, W.

    Returns:
        `(K)`.
    """
    values = []
    for one in matrix:
        warped = warp(moving_label[None].float(), one[None], spacing)[0] >= 0.5
        inside = fixed_label > 0
        values.append(2 * (warped & inside).sum() / (warped.sum() + inside.sum()))
    return torch.stack(values).double()
