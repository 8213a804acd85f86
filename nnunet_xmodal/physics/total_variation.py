"""From the field to the susceptibility with the fewest edges: total variation, by alternating directions.

    χ = argmin ½‖W(D χ − f)‖² + α‖∇χ‖₁          over maps that are 0 outside the mask

D is the dipole of `physics.dipole`, W how far a voxel's field is trusted, ∇ the differences of neighbours along all
axes, and ‖·‖₁ sums their absolute values, each axis for itself. The linear problem of Bilgic et al. (Fast quantitative
susceptibility mapping with L1-regularization and automatic parameter selection, 2014), split as in FANSI (Milovic et
al., 2018): z = ∇χ, y = D χ, and v = χ cut to the mask, are variables of their own, so that every step is a division in
k-space or one of voxels. With μ = 100 α and ν = 0.03:

    χ ← (μ ∇ᵀ(z − u) + D(y − s) + ν(v − t)) / (μ ∇ᵀ∇ + D² + ν)
    z ← shrink(∇χ + u, α/μ),             u ← u + ∇χ − z
    y ← (W²f + D χ + s) / (W² + 1),      s ← s + D χ − y
    v ← mask · (χ + t),                  t ← t + χ − v

A local field is that of the sources in the brain, and does not end there. Both are said: W is 0 outside the mask, where
nothing is known about the field, and so is χ, where nothing is. Division in k-space takes the field outside for 0.

α is in ppm: where it is as large as the field's noise, edges of that size vanish. Shapes, spacings and directions are
those of `dipole.forward`.
"""

import math
from collections.abc import Sequence

import torch
from scipy.fft import next_fast_len

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics.dipole import dipole_kernel

ALPHA = 1e-4
"""In ppm, for fields with a noise of 0.001 to 0.003 ppm."""
ITERATIONS = 30
PADDING = 1.3
"""How many times the size of the image the padded one has at least; differences wrap around its border."""

_RATIO = 100.0  # of μ to α, as in FANSI
_SUPPORT = 0.03  # ν: less converges slowly outside the mask, more inside it
_AXES = (-3, -2, -1)


def total_variation(
    field: torch.Tensor,
    mask: torch.Tensor,
    spacing: Sequence[float] | torch.Tensor,
    direction: Sequence[float] | torch.Tensor,
    alpha: float = ALPHA,
    weight: torch.Tensor | None = None,
    iterations: int = ITERATIONS,
    padding: float = PADDING,
) -> torch.Tensor:
    """Compute the susceptibility by total variation.

    Args:
        field, mask, spacing, direction: as `inversion.truncated_division` takes them.
        alpha: α in ppm, above 0. Differences of neighbours count per mean side of a voxel.
        weight: W, not below 0, of the field's shape, of which nothing counts outside the mask; None for the mask. Its
            root mean square where it is not 0 is taken for 1, so that α means the same whatever its unit.
        iterations: of the alternating directions.
        padding: zeros are appended up to at least this many times the size.

    Returns:
        `(B, 1, D, H, W)` in ppm, float32, or float64 for a field in float64.

    Raises:
        XModalError: for another α.
    """
    if not alpha > 0:
        raise XModalError(f"the weight of total variation must be above 0, and is {alpha}.")
    dtype = torch.promote_types(field.dtype, torch.float32)
    size = field.shape[-3:]
    padded = [next_fast_len(math.ceil(padding * side), real=True) for side in size]
    field, mask = field.to(dtype), mask.to(dtype)
    square = _normalised(mask if weight is None else weight.to(dtype) * mask) ** 2
    square, measured, support = (_appended(volume, padded) for volume in (square, square * field, mask))

    def to_k(volume: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfftn(volume, dim=_AXES)

    def back(spectrum: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfftn(spectrum, s=padded, dim=_AXES)

    dipole = dipole_kernel(padded, spacing, direction, dtype, field.device)
    dipole = dipole if dipole.ndim == 3 else dipole[:, None]
    per_mm = _per_side(spacing, dtype, field.device)
    mu = _RATIO * alpha
    divisor = dipole**2 + mu * _laplacian(padded, per_mm) + _SUPPORT
    z = [torch.zeros_like(measured) for _ in _AXES]
    u = [torch.zeros_like(measured) for _ in _AXES]
    y, s = measured / (square + 1), torch.zeros_like(measured)
    v, t = torch.zeros_like(measured), torch.zeros_like(measured)
    spectrum = torch.zeros((), dtype=dtype)
    for _ in range(iterations):
        numerator = dipole * to_k(y - s)
        pulled = sum(_transposed(each - dual, axis, scale) for each, dual, axis, scale in zip(z, u, _AXES, per_mm))
        spectrum = (numerator + to_k(mu * pulled + _SUPPORT * (v - t))) / divisor
        chi = back(spectrum)
        v = support * (chi + t)
        t = t + chi - v
        for number, (axis, scale) in enumerate(zip(_AXES, per_mm)):
            moved = _difference(chi, axis, scale) + u[number]
            z[number] = moved.sign() * (moved.abs() - alpha / mu).clamp(min=0)
            u[number] = moved - z[number]
        moved = back(dipole * spectrum) + s
        y = (measured + moved) / (square + 1)
        s = moved - y
    return back(spectrum)[..., : size[0], : size[1], : size[2]] * mask


def _normalised(weight: torch.Tensor) -> torch.Tensor:
    known = (weight > 0).sum((-3, -2, -1), keepdim=True).clamp(min=1)
    mean = ((weight**2).sum((-3, -2, -1), keepdim=True) / known).sqrt()
    return weight / torch.where(mean > 0, mean, 1)


def _appended(volume: torch.Tensor, padded: Sequence[int]) -> torch.Tensor:
    beyond = [side - own for side, own in zip(padded, volume.shape[-3:])]
    return torch.nn.functional.pad(volume, (0, beyond[2], 0, beyond[1], 0, beyond[0]))


def _per_side(spacing: Sequence[float] | torch.Tensor, dtype: torch.dtype, device: torch.device) -> list[torch.Tensor]:
    """What differences along z, y, x are multiplied with, `()` or `(B, 1, 1, 1, 1)` each: mean side by side."""
    mm = torch.as_tensor(spacing, dtype=dtype, device=device)
    ratio = mm.log().mean(-1, keepdim=True).exp() / mm
    return [each if each.ndim == 0 else each.view(-1, 1, 1, 1, 1) for each in ratio.unbind(-1)]


def _difference(volume: torch.Tensor, axis: int, scale: torch.Tensor) -> torch.Tensor:
    return (volume - volume.roll(1, axis)) * scale


def _transposed(volume: torch.Tensor, axis: int, scale: torch.Tensor) -> torch.Tensor:
    return (volume - volume.roll(-1, axis)) * scale


def _laplacian(padded: Sequence[int], per_side: Sequence[torch.Tensor]) -> torch.Tensor:
    """∇ᵀ∇ on the frequencies of `torch.fft.rfftn`."""
    total = torch.zeros((), dtype=per_side[0].dtype, device=per_side[0].device)
    for number, (side, scale) in enumerate(zip(padded, per_side)):
        frequencies = torch.fft.rfftfreq if number == 2 else torch.fft.fftfreq
        cycles = frequencies(side, dtype=total.dtype, device=total.device)
        along = (2 - 2 * torch.cos(2 * math.pi * cycles)).view([-1 if number == other else 1 for other in range(3)])
        total = total + scale**2 * along
    return total
