"""The field of a susceptibility map: convolution with the unit dipole (Zhang et al., Folded Attention, 2021, Eq. 10).

In k-space, with b the unit vector of the main field (Salomir et al., 2003; Marques & Bowtell, 2005):

    D(k) = 1/3 − (k·b)²/|k|²        field = F⁻¹[D · F[susceptibility]]

Field and susceptibility are in the same unit, parts of the main field: ppm in, ppm out. The 1/3 is Lorentz' correction:
inside a homogeneous sphere the field is 0. D lies between −2/3, along b, and 1/3, across it, and is 0 on the cone at
the magic angle of 54.7° around b, which is why its inversion is ill-posed.

**D(0) = 0**, where the formula says nothing: the mean of a map leaves no trace in its field.

**Axes.** Arrays are z, y, x, spacings mm along them, k cycles per mm: k_i = n_i/(N_i·spacing_i). b is in the array's
axes too, see `field_direction`; oblique slices have an oblique b. Its sign does not matter.

**Nyquist.** At the highest frequency of an even side, +k and −k are one and the same. For an oblique b they have
different D, and the mean of both is taken: so the kernel is even and its convolution real, symmetric, and the same
along every axis.

**Padding.** A product in k-space is a circular convolution. Zeros up to twice the size make it the linear one within
the grid: no source acts across its border. What it is convolved with is the field of a lattice of dipoles, one padded
grid apart: outside 1.5 radii of a sphere a third as wide as the grid, the copies' share is 0.8 % RMS, and 0.2 % with
three times the size.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from scipy.fft import next_fast_len

from nnunet_xmodal.errors import XModalError

Vector: TypeAlias = Sequence[float] | torch.Tensor
"""Along z, y, x: `(3,)`, or `(B, 3)`, one for every sample."""
PADDING = 2.0
"""How many times the size of the image the padded one has at least."""

_ORTHOGONAL_TO = 1e-3  # headers hold float32, and some of them few digits


def field_direction(direction_cosines: Sequence[float] | np.ndarray, b0: Sequence[float] = (0, 0, 1)) -> np.ndarray:
    """Return the main field in the axes of an image's array.

    Args:
        direction_cosines: nine numbers or `(3, 3)`; columns are the physical directions of the image's x, y, z, as
            SimpleITK and nnU-Net's properties have them.
        b0: the main field in physical space, x, y, z; along z, from feet to head, for a patient in a usual scanner.

    Returns:
        b, the unit vector along the array's z, y, x, `(3,)` float64.

    Raises:
        XModalError: for axes that are not those of a volume at right angles, and for a field without a direction.
    """
    cosines = np.asarray(direction_cosines, dtype=np.float64)
    axes = cosines.reshape(3, 3) if cosines.size == 9 else None
    if axes is None or not np.allclose(axes.T @ axes, np.eye(3), atol=_ORTHOGONAL_TO):
        raise XModalError(
            f"direction cosines must be those of three axes at right angles, and are {cosines.round(4).tolist()}: "
            "resample the image onto a grid whose axes are."
        )
    field = np.asarray(b0)
    if field.shape != (3,) or field.dtype.kind not in "iuf" or not np.isfinite(field).all() or not field.any():
        raise XModalError(f"the main field must be three numbers x, y, z that are not all 0, and is {field.tolist()}.")
    along = (axes.T @ field.astype(np.float64))[::-1]
    return along / np.linalg.norm(along)


def dipole_kernel(
    size: Sequence[int],
    spacing: Vector,
    direction: Vector,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Return D(k) on the frequencies of `torch.fft.rfftn`.

    Args:
        size: voxels along z, y, x.
        spacing: mm along z, y, x, `(3,)` or `(B, 3)`.
        direction: b, unit vector along z, y, x, `(3,)` or `(B, 3)`.

    Returns:
        `(D, H, W//2 + 1)`, with a leading B if spacing or direction have one.
    """
    spacing = _per_axis(spacing, dtype, device)  # 3 (B) 1 1 1
    direction = _per_axis(direction, dtype, device)
    along = folded = square = torch.zeros((), dtype=dtype, device=device)
    for axis, (side, mm, b) in enumerate(zip(size, spacing, direction)):
        frequencies = torch.fft.rfftfreq if axis == 2 else torch.fft.fftfreq
        cycles = frequencies(side, dtype=dtype, device=device)  # per voxel
        cycles = cycles.view([-1 if axis == other else 1 for other in range(3)])
        k = cycles / mm
        at_nyquist = torch.where(cycles.abs() == 0.5, k, 0)
        along = along + b * (k - at_nyquist)
        folded = folded + (b * at_nyquist) ** 2  # products with another axis change their sign: their mean is 0
        square = square + k**2
    square[..., 0, 0, 0] = 1
    kernel = 1 / 3 - (along**2 + folded) / square
    kernel[..., 0, 0, 0] = 0
    return kernel


def forward(
    susceptibility: torch.Tensor,
    spacing: Vector,
    direction: Vector,
    padding: float = PADDING,
) -> torch.Tensor:
    """Compute the field of a map, in the map's unit; linear, differentiable, and its own adjoint.

    Args:
        susceptibility: `(B, 1, D, H, W)`, 0 where nothing is known.
        spacing: mm along z, y, x, `(3,)` or `(B, 3)`.
        direction: b, unit vector along z, y, x, `(3,)` or `(B, 3)`.
        padding: 2 or more for the linear convolution, 1 for the circular one, of sides that are products of 2, 3 and 5;
            others are padded to such, see `in_k_space`.

    Returns:
        `(B, 1, D, H, W)` in float32, or float64 for a map in float64.
    """
    return in_k_space(susceptibility, spacing, direction, lambda kernel: kernel, padding)


def in_k_space(
    image: torch.Tensor,
    spacing: Vector,
    direction: Vector,
    transfer: Callable[[torch.Tensor], torch.Tensor],
    padding: float = PADDING,
) -> torch.Tensor:
    """Compute F⁻¹[transfer(D) · F[image]], where D is real and even, for the forward model and what inverts it.

    Args:
        image: `(B, C, D, H, W)`.
        spacing, direction: as `forward` has them.
        transfer: D → what to multiply with, element by element.
        padding: zeros are appended up to at least this many times the size, then up to a length that an FFT likes:
            products of 2, 3 and 5. They are cut off again.

    Returns:
        As the image, in float32 or more.
    """
    image = image.to(torch.promote_types(image.dtype, torch.float32))  # half precision has no FFT of every length
    size = image.shape[-3:]
    padded = [next_fast_len(math.ceil(padding * side), real=True) for side in size]
    kernel = dipole_kernel(padded, spacing, direction, image.dtype, image.device)  # (B) D' H' W'
    multiplier = transfer(kernel if kernel.ndim == 3 else kernel[:, None])  # (B 1) D' H' W'
    spectrum = torch.fft.rfftn(image, s=padded, dim=(-3, -2, -1))  # B C D' H' W'
    result = torch.fft.irfftn(multiplier * spectrum, s=padded, dim=(-3, -2, -1))  # B C 2D 2H 2W
    return result[..., : size[0], : size[1], : size[2]]


def _per_axis(vector: Vector, dtype: torch.dtype, device: torch.device | None) -> torch.Tensor:
    """`(3,)` or `(B, 3)` → `(3, …, 1, 1, 1)`."""
    return torch.as_tensor(vector, dtype=dtype, device=device).movedim(-1, 0)[..., None, None, None]
