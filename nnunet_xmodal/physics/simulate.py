"""Fields as a scanner would measure them, from a map of susceptibility: sources inside a mask, and noise.

What is simulated is the *local* field, that of the sources inside the mask, as unwrapping and a perfect removal of the
background leave it. Everything is in ppm of the main field; arrays are `(B, 1, D, H, W)`, spacings mm along z, y, x.

**Noise.** The phase of a voxel with the signal-to-noise ratio SNR = magnitude / (standard deviation of its real part)
has the standard deviation 1/SNR radians, if SNR is above 3 or so (Gudbjartsson & Patz, The Rician distribution of noisy
MRI data, 1995, Eq. 8). Divided by the phase of one ppm that is the noise of the field: white, and stronger where the
image is dark.

**No inverse crime.** A field computed on the grid on which it is inverted obeys the very model that inverts it. Compute
it on a finer grid and take `block_means` of both.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics import dipole
from nnunet_xmodal.physics.units import one_ppm_in


def local_field(
    susceptibility: torch.Tensor,
    mask: torch.Tensor,
    spacing: Sequence[float] | torch.Tensor,
    direction: Sequence[float] | torch.Tensor,
    padding: float = dipole.PADDING,
) -> torch.Tensor:
    """Compute the field of the sources inside the mask, 0 outside: all arguments and the result as `dipole.forward` has
    them.

    Args:
        mask: bool or 0 and 1, of the map's shape.
    """
    mask = mask.to(susceptibility.dtype)
    return dipole.forward(susceptibility * mask, spacing, direction, padding) * mask


def measured_field(
    susceptibility: torch.Tensor,
    mask: torch.Tensor,
    spacing: Sequence[float] | torch.Tensor,
    direction: Sequence[float] | torch.Tensor,
    noise: float | torch.Tensor,
    generator: torch.Generator | None = None,
    padding: float = dipole.PADDING,
) -> torch.Tensor:
    """Return `local_field` with white noise inside the mask.

    Args:
        noise: standard deviation in ppm, one or one per voxel; see `field_noise`.
        generator: on the map's device; equal states give equal fields.
    """
    field = local_field(susceptibility, mask, spacing, direction, padding)
    return with_noise(field, noise, generator) * mask.to(field.dtype)


def with_noise(
    field: torch.Tensor, standard_deviation: float | torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Add white Gaussian noise of a standard deviation in the field's unit, one or one per voxel."""
    white = torch.randn(field.shape, generator=generator, dtype=field.dtype, device=field.device)
    return field + standard_deviation * white


def field_noise(snr: float, b0: float, echo_time: float, magnitude: float | torch.Tensor = 1.0) -> float | torch.Tensor:
    """Return the standard deviation of the field in ppm.

    Args:
        snr: of the magnitude where that is 1, at the echo time.
        b0, echo_time: T and s.
        magnitude: relative to where the SNR was measured, one or one per voxel; noise is finite where it is 0 too, no
            more than that of a phase without any signal, π/√3 radians.

    Raises:
        XModalError: for an SNR, field strength or echo time that is not positive.
    """
    if not snr > 0:
        raise XModalError(f"the signal-to-noise ratio must be a positive number, and is {snr}.")
    return _phase_noise(snr, magnitude) / one_ppm_in("rad", b0, echo_time)


def block_means(volume: torch.Tensor, factor: int) -> torch.Tensor:
    """Average from a fine grid to one of voxels `factor` times as wide along every axis, `(B, C, D, H, W)` → `(B, C,
    D', …)`.

    Of a field, the mean over a voxel is what its phase shows, as long as it changes little within: the signal of a
    voxel is the mean of complex numbers.

    Raises:
        XModalError: if the sides are no multiples of the factor, which would cut off the last voxels.
    """
    if any(side % factor for side in volume.shape[-3:]):
        raise XModalError(f"a grid of {list(volume.shape[-3:])} voxels has no blocks of {factor} along every axis.")
    return F.avg_pool3d(volume, factor)


def _phase_noise(snr: float, magnitude: float | torch.Tensor) -> float | torch.Tensor:
    uniform = torch.pi / 3**0.5
    if isinstance(magnitude, torch.Tensor):
        return (snr * magnitude).reciprocal().clamp(max=uniform)
    return min(1 / (snr * magnitude), uniform) if magnitude > 0 else uniform
