"""Phantoms of no anatomy, to learn the inversion of fields from: shapes of any susceptibility in a mask of its own.

Networks that are trained on heads learn where a head has what. Here nothing inside is tied to the mask: a tessellation
by smooth noise, ellipsoids, boxes and rods of any size and orientation, a texture of several scales, and around all of
it a warped ellipsoid that was drawn for itself. Small shapes are more frequent than large ones by the third power of
their size, as in the dead leaves of natural images (Lee et al., Occlusion models for natural images, 2001): a map of
large shapes alone has little where noise is strongest, and a network would learn to smooth. Susceptibilities follow
Laplace's distribution, of both signs and with heavy tails, as those of veins, iron and calcium.

Fields are computed as those of `phantoms.heads`, and so are what is counted from where, noise, and tilt.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch.nn import functional as F

from nnunet_xmodal.phantoms.heads import (
    FINER,
    SHAPE,
    SPACING,
    SusceptibilityPhantom,
    check_grid,
    drawn_turn,
    scanned,
    smooth_noise,
    write_susceptibility_dataset,
)

_CELLS = (4, 14)  # values of the tessellation
_CELL_SIZE = (0.8, 5.0)  # voxels, of the noise that draws it
_SHAPES = (30.0, 200.0)  # ellipsoids, boxes and rods by 10,000 voxels of the grid
_RADIUS = (0.5, 9.0)  # voxels
_CELL_SPREAD, _SHAPE_SPREAD = 0.018, 0.05  # ppm, of Laplace's distribution
_SIZE = (0.6, 1.6)  # factor by which all of a case is stronger or weaker
_FINE_TEXTURE, _COARSE_TEXTURE = (0.003, 0.020), (0.0, 0.008)  # ppm


def random_shapes_phantom(
    rng: np.random.Generator, shape: Sequence[int] = SHAPE, spacing: Sequence[float] = SPACING
) -> SusceptibilityPhantom:
    """Make one phantom; arguments and errors as `susceptibility_phantom`."""
    check_grid(shape)
    fine_shape, fine_spacing = [side * FINER for side in shape], [mm / FINER for mm in spacing]
    fine = _tessellation(rng, shape)
    for _ in range(int(_log_uniform(rng, *_SHAPES) * np.prod(shape) / 1e4)):
        _add_shape(rng, fine)
    fine = gaussian_filter(fine, rng.uniform(0.4, 1.2))  # voxels of the fine grid
    fine += np.float32(rng.uniform(*_FINE_TEXTURE)) * smooth_noise(rng, fine_shape, np.full(3, rng.uniform(0.8, 2.2)))
    fine += np.float32(rng.uniform(*_COARSE_TEXTURE)) * smooth_noise(rng, fine_shape, np.full(3, rng.uniform(4, 10)))
    fine *= np.float32(_log_uniform(rng, *_SIZE))
    mask = _mask(rng, fine_shape)
    return scanned(rng, fine, mask, fine_spacing, drawn_turn(rng))


write_random_shapes_dataset = partial(write_susceptibility_dataset, phantom=random_shapes_phantom, prefix="shapes")
"""Writes such phantoms as a raw dataset, to train on; arguments and errors as `write_susceptibility_dataset`."""


def _tessellation(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Float32 on the fine grid: every voxel has the value of the smooth noise that is largest there."""
    size = _log_uniform(rng, *_CELL_SIZE)
    values = rng.laplace(0, _CELL_SPREAD, rng.integers(*_CELLS))
    fine = [side * FINER for side in shape]
    largest, chi = np.full(fine, -np.inf, np.float32), np.zeros(fine, np.float32)
    for value in values:
        noise = torch.from_numpy(smooth_noise(rng, shape, np.full(3, size)))[None, None]
        noise = F.interpolate(noise, scale_factor=FINER, mode="trilinear")[0, 0].numpy()
        chi[noise > largest] = value
        largest = np.maximum(largest, noise)
    return chi


def _add_shape(rng: np.random.Generator, chi: np.ndarray) -> None:
    """Put an ellipsoid, box or rod into the map, in place of what is there or added to it."""
    low, high = _RADIUS
    size = (low**-2 - rng.random() * (low**-2 - high**-2)) ** -0.5  # of a density that falls with the third power
    if rng.random() < 0.7:
        radii = np.clip(size * np.exp(rng.uniform(-0.7, 0.7, 3)), low, high) * FINER
    else:
        radii = min(size, 1.5) * FINER * rng.permutation([1.0, 1.0, rng.uniform(4, 14)])
    centre = rng.uniform(0, chi.shape)
    turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    elliptic, replaces, value = rng.random() < 0.75, rng.random() < 0.5, np.float32(rng.laplace(0, _SHAPE_SPREAD))
    reach = radii.max() * (1 if elliptic else 3**0.5) + 1
    box = tuple(
        slice(max(0, int(middle - reach)), min(side, int(middle + reach) + 1))
        for middle, side in zip(centre, chi.shape)
    )
    places = np.meshgrid(*(np.arange(part.start, part.stop, dtype=np.float32) for part in box), indexing="ij")
    from_centre = np.stack(places) - centre.astype(np.float32)[:, None, None, None]
    own = np.tensordot((turn / radii[:, None]).astype(np.float32), from_centre, 1)
    inside = (own**2).sum(0) < 1 if elliptic else np.abs(own).max(0) < 1
    if replaces:
        chi[box][inside] = value
    else:
        chi[box][inside] += value


def _mask(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Bool: a warped ellipsoid."""
    axes = [(np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1 for side in shape]
    radii, centre = rng.uniform(0.6, 0.95, 3).astype(np.float32), rng.uniform(-0.08, 0.08, 3).astype(np.float32)
    own = [(axis - middle) / radius for axis, middle, radius in zip(axes, centre, radii)]
    radius = np.sqrt(own[0][:, None, None] ** 2 + own[1][:, None] ** 2 + own[2] ** 2)
    small = [side // (2 * FINER) for side in shape]  # smooth noise needs no fine grid
    warp = torch.from_numpy(smooth_noise(rng, small, np.full(3, rng.uniform(2, 6))))[None, None]
    warp = F.interpolate(warp, size=list(shape), mode="trilinear")[0, 0].numpy()
    inside = radius + np.float32(0.06) * warp < 1
    for axis in range(3):  # the grid's border stays outside
        inside[(slice(None),) * axis + ([0, 1, -2, -1],)] = False
    return inside


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
