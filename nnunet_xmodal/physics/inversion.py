"""From the field to the susceptibility without learning: division in k-space, where D nearly vanishes held back.

- Truncated k-space division (Shmueli et al., 2009): 1/D where |D| > t, sign(D)/t where it is less.
- Tikhonov (e.g. Bilgic et al., 2014, with the identity as regulariser): D/(D² + λ), which minimises
  ‖D χ − F[field]‖² + λ‖χ‖².

Both underestimate what lies near the magic angle, and show it as streaks. They want a local field in ppm, unwrapped and
without its background, 0 outside the mask. Mean values are lost with D(0) = 0: what is 0 on average is the padded grid,
not the mask. Before maps are compared, count all of them from the same.

Threshold and λ decide between noise and blur: choose them on training cases. Shapes, spacings and directions are those
of `dipole.forward`.
"""

import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics.dipole import PADDING, Vector, in_k_space


def truncated_division(
    field: torch.Tensor,
    mask: torch.Tensor,
    spacing: Vector,
    direction: Vector,
    threshold: float,
    padding: float = PADDING,
) -> torch.Tensor:
    """Compute the susceptibility by truncated k-space division (TKD).

    Args:
        field: `(B, 1, D, H, W)` in ppm.
        mask: bool or 0 and 1, of the field's shape: the map is 0 outside.
        spacing, direction: `(3,)` or `(B, 3)`, mm and unit vector along z, y, x.
        threshold: t, above 0 and below 2/3, the largest |D|; 0.1 to 0.2 is customary.

    Returns:
        `(B, 1, D, H, W)` in ppm.

    Raises:
        XModalError: for another threshold.
    """
    if not 0 < threshold < 2 / 3:
        raise XModalError(f"the threshold must be above 0 and below 2/3, the largest |D|, and is {threshold}.")

    def divide(kernel: torch.Tensor) -> torch.Tensor:
        return kernel.sign() / kernel.abs().clamp(min=threshold)  # 0 where D is

    return in_k_space(field, spacing, direction, divide, padding) * mask.to(field.dtype)


def tikhonov(
    field: torch.Tensor, mask: torch.Tensor, spacing: Vector, direction: Vector, lam: float, padding: float = PADDING
) -> torch.Tensor:
    """Compute the susceptibility by Tikhonov's regularisation, in closed form; as `truncated_division` but for λ.

    Args:
        lam: λ, above 0; 0.001 to 0.1 is where to look.

    Raises:
        XModalError: for another λ.
    """
    if not lam > 0:
        raise XModalError(f"the regularisation parameter must be above 0, and is {lam}.")
    inverse = in_k_space(field, spacing, direction, lambda kernel: kernel / (kernel**2 + lam), padding)
    return inverse * mask.to(field.dtype)
