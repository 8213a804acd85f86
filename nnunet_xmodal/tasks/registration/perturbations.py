"""Random starts: rigid perturbations of a known surface registration error (Song et al., 2021, Sec. 3.1).

"We perturbed each ground truth transformation parameter randomly within the range of 5mm of translation or 6 degrees of
rotation, and then scale the perturbation to a random SRE within the desired range."

All six parameters are multiplied by one factor s. The SRE of M(s·p) is not linear in s, rotations being what they are:
taking s from the SRE of p alone misses by 6.8 mm at worst. So s is bracketed and bisected until the SRE is the
requested one. A perturbation that would have to turn by more than 90° about an axis, a rotation of a small organ with
next to no translation, is drawn anew.
"""

from collections.abc import Callable
from functools import partial
from zlib import crc32

import numpy as np
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import sre as surface_error

TRANSLATION = 5.0
"""mm, the range before scaling, both ways."""
ROTATION = 6.0
"""Degrees, likewise."""

_LARGEST_ANGLE = 90.0
_HALVINGS = 26
_DRAWS = 100

SRE = float | tuple[float, float]
"""A surface registration error in mm, or the range from which to draw it uniformly."""


def random_perturbations(
    points: torch.Tensor, exists: torch.Tensor | None, sre: SRE, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Draw a perturbation of every case of a batch, on the device of its points.

    Args:
        points: of the surfaces, `(B, N, 3)` in mm from the centre of the grid.
        exists: bool `(B, N)` of padded surfaces, see `surface.padded`; all of them if None.
        sre: e.g. (0, 20), for the second stage (0, 8).
        generator: on the same device.

    Returns:
        p, `(B, 6)` in mm and degrees, with mean ‖M(p)m − m‖ as drawn, to 0.01 mm.

    Raises:
        XModalError: for an SRE that is negative, and for one that no perturbation of this surface has.
    """

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, device=points.device, dtype=points.dtype, generator=generator)

    low, high = _range(sre)
    wanted = low + (high - low) * uniform(len(points))
    return _draw_until_found(lambda: uniform(len(points), 6), wanted, points, exists)


def fixed_perturbations(case: str, points: torch.Tensor, sre: SRE, count: int, seed: int = 0) -> torch.Tensor:
    """Return the same starts of a case at every call, in every order of cases and for any number of them.

    Each start has a random stream of its own, of the seed, the case's name and its index: the first five of forty are
    the five. Starts of another SRE are the same ones scaled otherwise.

    Args:
        case: its name.
        points: of its surface, `(N, 3)` in mm from the centre of the grid.
        sre: in mm; (0, 20) in training, 8.0 and 16.0 for the counterpart of Table 1.
        count: K.

    Returns:
        p, `(K, 6)` float64 in mm and degrees, on the CPU.

    Raises:
        XModalError: as random_perturbations.
    """
    low, high = _range(sre)
    points = points.detach().to("cpu", torch.float64)[None]
    starts = []
    for index in range(count):
        rng = np.random.default_rng((seed, crc32(case.encode()), index))
        wanted = torch.tensor([low + (high - low) * rng.uniform()], dtype=torch.float64)
        starts.append(_draw_until_found(partial(_six_uniform, rng), wanted, points, None))
    return torch.cat(starts) if starts else torch.empty(0, 6, dtype=torch.float64)


def scaled_to_sre(
    parameters: torch.Tensor, sre: torch.Tensor, points: torch.Tensor, exists: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale perturbations p to s·p whose SRE is the requested one.

    Args:
        parameters: p, `(B, 6)` in mm and degrees.
        sre: `(B)` in mm.
        points, exists: as random_perturbations.

    Returns:
        s·p `(B, 6)`, and bool `(B)`: whether there is such an s with all rotations within ±90°.
    """

    def error(scale: torch.Tensor) -> torch.Tensor:
        return surface_error(rigid_transform.matrix(scale[:, None] * parameters), points, exists)

    largest = _LARGEST_ANGLE / parameters[:, 3:].abs().amax(1).clamp_min(1e-6)
    low, high = torch.zeros_like(sre), torch.ones_like(sre).minimum(largest)
    while ((error(high) < sre) & (high < largest)).any():  # up from below, to meet the first crossing
        short = error(high) < sre
        low, high = torch.where(short, high, low), torch.where(short, (1.5 * high).minimum(largest), high)
    found = error(high) >= sre
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        short = error(middle) < sre
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return ((low + high) / 2)[:, None] * parameters, found


def _six_uniform(rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.uniform(size=(1, 6)))


def _draw_until_found(
    uniform: Callable[[], torch.Tensor], wanted: torch.Tensor, points: torch.Tensor, exists: torch.Tensor | None
) -> torch.Tensor:
    limits = points.new_tensor([TRANSLATION] * 3 + [ROTATION] * 3)
    scaled, found = points.new_zeros(len(points), 6), torch.zeros_like(wanted, dtype=torch.bool)
    for _ in range(_DRAWS):
        candidates, fits = scaled_to_sre((2 * uniform() - 1) * limits, wanted, points, exists)
        scaled = torch.where(((~found) & fits)[:, None], candidates, scaled)
        found = found | fits
        if found.all():
            return scaled
    raise XModalError(
        f"no perturbation moves a surface of the batch by {wanted[~found].max():.3g} mm on average with rotations "
        f"within ±{_LARGEST_ANGLE:g}°: ask for a smaller SRE."
    )


def _range(sre: SRE) -> tuple[float, float]:
    low, high = sre if isinstance(sre, (tuple, list)) else (sre, sre)
    if not 0 <= low <= high < float("inf"):
        raise XModalError(f"the SRE of perturbations must be a number from 0 mm on or a range (low, high), not {sre}.")
    return low, high
