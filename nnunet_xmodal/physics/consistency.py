"""Bring a map into line with the field that was measured, whoever made the map.

    χ = argmin ‖W(D χ − f)‖² + λ‖χ − χ₀‖²          over maps that are 0 outside the mask

Networks see tiles, and nothing makes the field of their map that of the measurement. Where the dipole tells much of the
susceptibility, the field decides; around the magic angle, where it tells next to nothing, the given map χ₀ does. By
conjugate gradients, to which D is its own adjoint. Shapes, spacings and directions are those of `dipole.forward`.
"""

from collections.abc import Sequence

import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics import dipole

ITERATIONS = 20
_TOLERANCE = 1e-4  # of the residual, relative to the right side


def consistent(
    given: torch.Tensor,
    field: torch.Tensor,
    mask: torch.Tensor,
    spacing: Sequence[float] | torch.Tensor,
    direction: Sequence[float] | torch.Tensor,
    lam: float,
    weight: torch.Tensor | None = None,
    iterations: int = ITERATIONS,
    padding: float = dipole.PADDING,
) -> torch.Tensor:
    """Compute the map that explains the field and is near the given one.

    Args:
        given: χ₀, `(B, 1, D, H, W)` in ppm.
        field, mask: of the same shape, in ppm, and bool or 0 and 1.
        spacing, direction: `(3,)` or `(B, 3)`, mm and unit vector along z, y, x.
        lam: λ, above 0: 0.01 leaves most to the field, 1 most to the given map.
        weight: W, not below 0, of the field's shape, None for 1; outside the mask it is 0.
        iterations: at most; it ends earlier where the residual is 1e-4 of the right side.

    Returns:
        `(B, 1, D, H, W)` in ppm.

    Raises:
        XModalError: for another λ.
    """
    if not lam > 0:
        raise XModalError(f"the weight of the given map must be above 0, and is {lam}.")
    inside = mask.to(given.dtype)
    square = inside if weight is None else inside * weight.to(given.dtype) ** 2

    def of_field(volume: torch.Tensor) -> torch.Tensor:
        return inside * dipole.forward(volume, spacing, direction, padding)

    def normal(chi: torch.Tensor) -> torch.Tensor:
        return of_field(square * of_field(chi)) + lam * chi

    right = of_field(square * field) + lam * inside * given
    chi = inside * given
    residual = right - normal(chi)
    step, size = residual, _square_norm(residual)
    enough = _TOLERANCE**2 * _square_norm(right)
    for _ in range(iterations):
        if (size <= enough).all():
            break
        moved = normal(step)
        length = size / _square_norm(step, moved).clamp(min=torch.finfo(chi.dtype).tiny)
        chi = chi + length * step
        residual = residual - length * moved
        previous, size = size, _square_norm(residual)
        step = residual + size / previous.clamp(min=torch.finfo(chi.dtype).tiny) * step
    return chi


def _square_norm(volume: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
    """`(B, 1, 1, 1, 1)`: every case has its own step."""
    return (volume * (volume if other is None else other)).sum((1, 2, 3, 4), keepdim=True)
