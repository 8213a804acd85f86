"""Phantoms for registration: pairs that look like MR and transrectal ultrasound of one prostate, on one grid, aligned.

An organ of smooth random shape with a capsule, an inner zone, a urethra, nodules and calcifications lies between a
bladder above it, a rectum behind it and muscles beside it. The MR shows tissues by their contrast, a bias field and
noise. The ultrasound shows, inside the fan of a probe in the rectum, interfaces between tissues where they face the
beam, arcs of reverberation where there is none, speckle of a strength that is drawn for every tissue and case anew, and
shadows behind calcifications and gas. So edges correspond, some of them, and intensities do not, and part of the organ
may be missing in the ultrasound.

The fan's apex, tilt, opening, depth and length are drawn too: where it lies says nothing about where the organ lies. It
ends inside the grid, so that a moved ultrasound has no other border than an aligned one.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.phantoms.ellipsoids import millimetres_from_centre
from nnunet_xmodal.phantoms.raw_dataset import Shape, Spacing, cases_of, write_raw_dataset

SHAPE = (40, 64, 64)
"""Voxels along z, y, x."""
SPACING = (2.0, 1.25, 1.25)
"""Millimetres along z, y, x."""
CHANNELS = ("MR", "US")

_SMALLEST = 70.0  # mm, what organ and surroundings take
_FAT, _MUSCLE, _CAPSULE, _PERIPHERAL, _TRANSITION, _URETHRA, _NODULE, _CALCIFICATION, _BLADDER, _GAS = range(10)
_MR = np.array((0.80, 0.30, 0.22, 0.90, 0.50, 0.85, 0.28, 0.05, 1.00, 0.04))
_SCATTER = np.array((0.55, 0.40, 0.90, 0.50, 0.40, 0.12, 0.35, 2.50, 0.02, 0.30))
_IMPEDANCE = np.array((1.45, 1.65, 1.95, 1.60, 1.52, 1.48, 1.68, 2.60, 1.48, 0.80))
_ATTENUATION = np.array((0.010, 0.014, 0.020, 0.010, 0.014, 0.006, 0.016, 0.60, 0.001, 0.05))  # per mm


class MrUsPhantom(NamedTuple):
    """A pair of MR and ultrasound of one organ.

    Attributes:
        images: float32 `(2, z, y, x)`: MR, positive, and ultrasound, 0 outside of its fan; both in arbitrary units.
        label: uint8 `(z, y, x)`, 1 in the organ.
        fan: bool `(z, y, x)`, what the probe sees.
    """

    images: np.ndarray
    label: np.ndarray
    fan: np.ndarray


def mr_us_phantom(rng: np.random.Generator, shape: Shape = SHAPE, spacing: Spacing = SPACING) -> MrUsPhantom:
    """Make one pair; equal states of `rng` give equal pairs.

    Raises:
        XModalError: for a grid that is smaller than organ and surroundings.
    """
    extent = [side * mm for side, mm in zip(shape, spacing)]
    if min(extent) < _SMALLEST:
        raise XModalError(
            f"a phantom needs {_SMALLEST:g} mm along every axis, and {list(shape)} voxels of {list(spacing)} mm are "
            f"{extent}: take more or larger voxels."
        )
    mm = millimetres_from_centre(shape, spacing).astype(np.float32)  # 3 z y x
    tissue, organ, rectum = _anatomy(rng, mm)
    mr = _magnetic_resonance(rng, tissue, mm, spacing)
    us, fan = _ultrasound(rng, tissue, mm, spacing, rectum)
    return MrUsPhantom(np.stack((mr, us)).astype(np.float32), organ.astype(np.uint8), fan)


def _anatomy(rng: np.random.Generator, mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index of the tissue at every voxel, the organ, and y and x of the rectum's axis in mm."""
    centre, radii = rng.uniform(-3, 3, 3), rng.uniform((16, 13, 18), (21, 17, 24))
    turned = Rotation.from_euler("ZYX", rng.uniform(-12, 12, 3), degrees=True).as_matrix()
    own = np.tensordot(turned, mm - centre[:, None, None, None], 1)  # 3 z y x, along the organ's axes

    tissue = np.where(_smooth_noise(rng, mm.shape[1:], mm, 6.0) > 0.4, _MUSCLE, _FAT)
    for side in (-1, 1):  # muscles beside the organ
        place = centre + (rng.uniform(-4, 4), rng.uniform(-6, 2), side * (radii[2] + rng.uniform(9, 13)))
        tissue[_relative_radius(rng, mm - place[:, None, None, None], (30, 14, 7)) < 1] = _MUSCLE
    above = centre + (radii[0] + rng.uniform(7, 11), rng.uniform(-8, -2), rng.uniform(-4, 4))
    tissue[_relative_radius(rng, mm - above[:, None, None, None], rng.uniform((10, 10, 13), (14, 15, 19))) < 1] = (
        _BLADDER
    )
    rectum = centre[1:] + (radii[1] + rng.uniform(9, 12), rng.uniform(-3, 3))
    tissue[np.hypot(mm[1] - rectum[0], mm[2] - rectum[1]) < rng.uniform(6, 8)] = _GAS

    radius = _relative_radius(rng, own, radii)
    organ = radius < 1
    tissue[organ] = _CAPSULE
    tissue[radius < 1 - rng.uniform(1.0, 2.0) / radii.mean()] = _PERIPHERAL
    inner = own - np.array((0.1, -0.25, 0.0))[:, None, None, None] * radii[:, None, None, None]
    transition = organ & (_relative_radius(rng, inner, radii * rng.uniform(0.55, 0.72, 3)) < 1)
    tissue[transition] = _TRANSITION
    for kind, count, smallest, largest in (
        (_NODULE, rng.integers(2, 5), 2.5, 5.5),
        (_CALCIFICATION, rng.integers(1, 4), 1.3, 2.2),
    ):
        for _ in range(count):
            direction = rng.normal(size=3)
            place = direction / np.linalg.norm(direction) * rng.uniform(0.3, 0.75) * radii
            blob = _relative_radius(rng, own - place[:, None, None, None], rng.uniform(smallest, largest, 3)) < 1
            tissue[blob & organ] = kind
    bend = radii[1] * rng.uniform(0.1, 0.3) * (own[0] / radii[0]) ** 2
    tissue[organ & (np.hypot(own[1] + 0.2 * radii[1] - bend, own[2]) < rng.uniform(1.8, 2.8))] = _URETHRA
    return tissue, organ, rectum


def _relative_radius(rng: np.random.Generator, mm: np.ndarray, radii: ArrayLike) -> np.ndarray:
    """1 on the surface of an ellipsoid around 0 with smooth random dents and bumps, less inside."""
    scaled = mm / np.asarray(radii)[:, None, None, None]
    radius = np.sqrt((scaled**2).sum(0)) + 1e-6
    surface = (radius > 0.5) & (radius < 1.4)  # elsewhere bumps, of a quarter at most, decide nothing
    directions = scaled[:, surface] / radius[surface]
    bumps = np.zeros_like(directions[0])
    for _ in range(5):
        bumps += 0.05 * np.cos(rng.normal(scale=2.0, size=3) @ directions + rng.uniform(0, 2 * np.pi))
    radius[surface] /= 1 + bumps
    return radius


def _smooth_noise(rng: np.random.Generator, shape: Sequence[int], mm: np.ndarray, correlation: float) -> np.ndarray:
    """Of mean 0 and standard deviation 1; `correlation` in mm."""
    spacing = [np.ptp(mm[axis]) / (side - 1) for axis, side in enumerate(shape)]
    noise = gaussian_filter(rng.normal(size=shape), correlation / np.array(spacing), mode="wrap")
    return (noise - noise.mean()) / noise.std()


def _magnetic_resonance(
    rng: np.random.Generator, tissue: np.ndarray, mm: np.ndarray, spacing: Sequence[float]
) -> np.ndarray:
    contrast = np.clip(_MR + rng.normal(scale=0.06, size=len(_MR)), 0.02, None)
    image = gaussian_filter(contrast[tissue], 0.7 / np.array(spacing))
    image = image * (1 + 0.08 * _smooth_noise(rng, tissue.shape, mm, 1.5))
    image = image * np.exp(0.1 * _smooth_noise(rng, tissue.shape, mm, 35.0))  # the coil's bias field
    noise = rng.normal(scale=rng.uniform(0.02, 0.05), size=(2, *tissue.shape))
    return 400 * np.hypot(image + noise[0], noise[1]) + 1  # Rician; nnU-Net crops what is zero


def _ultrasound(
    rng: np.random.Generator, tissue: np.ndarray, mm: np.ndarray, spacing: Sequence[float], rectum: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Image and fan."""
    apex = rectum + rng.uniform(-1.5, 1.5, 2)
    forward, sideways = apex[0] - mm[1], mm[2] - apex[1]  # the probe looks towards −y
    radius, angle = np.hypot(forward, sideways), np.arctan2(sideways, forward)
    beam = np.stack((-forward, sideways)) / (radius + 1e-6)  # 2 z y x, y and x of the unit vector

    impedance = _IMPEDANCE + rng.normal(scale=0.05, size=len(_IMPEDANCE))
    gradient = np.gradient(gaussian_filter(impedance[tissue], 0.6 / np.array(spacing)), *spacing)
    facing = np.abs(gradient[1] * beam[0] + gradient[2] * beam[1])
    steepness = np.sqrt(sum(part**2 for part in gradient))
    interfaces = facing**2 / (steepness + 1e-3)  # specular: brightest where the beam meets them head-on
    scatter = (_SCATTER * np.exp(rng.normal(scale=0.45, size=len(_SCATTER))))[tissue]
    coupling = np.clip(1 + 0.6 * _smooth_noise(rng, tissue.shape, mm, 10.0), 0.1, None)  # no surface is seen all round
    echo = (scatter + 9.0 * interfaces * coupling + _reverberations(rng, radius)) * _speckle(rng, tissue.shape, spacing)
    echo = echo * _transmission(_ATTENUATION[tissue], mm, spacing, apex, radius, angle)

    tilt, opening = rng.uniform(-12, 12), rng.uniform(50, 68)
    near, far = rng.uniform(7, 9), rng.uniform(42, 56)
    fan = (np.abs(np.rad2deg(angle) - tilt) < opening) & (radius > near) & (radius < far)
    for axis, (low, high) in enumerate(rng.uniform(0.04, 0.14, (3, 2))):
        edge = np.abs(mm[axis]).max()
        fan &= (mm[axis] > -edge * (1 - 2 * low)) & (mm[axis] < edge * (1 - 2 * high))
    compressed = np.log1p(rng.uniform(6, 12) * echo)
    return np.where(fan, 60 * gaussian_filter(compressed, 0.4 / np.array(spacing)) + 1, 0), fan


def _reverberations(rng: np.random.Generator, radius: np.ndarray) -> np.ndarray:
    """Arcs around the probe where no tissue ends: echoes that went to and fro, weaker at every turn."""
    first, width = rng.uniform(9, 14), rng.uniform(0.7, 1.2)
    strength = rng.uniform(0.3, 0.9)
    arcs = np.zeros_like(radius)
    for turn in range(1, 5):
        arcs += strength * 0.8**turn * np.exp(-(((radius - turn * first) / width) ** 2) / 2)
    return arcs


def _speckle(rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Rayleigh distributed with mean square 1, correlated over some millimetres."""
    parts = gaussian_filter(rng.normal(size=(2, *shape)), (0, *(1.2 / np.array(spacing))))
    return np.hypot(*parts) / np.sqrt(2) / parts.std()


def _transmission(
    attenuation: np.ndarray,
    mm: np.ndarray,
    spacing: Sequence[float],
    apex: np.ndarray,
    radius: np.ndarray,
    angle: np.ndarray,
) -> np.ndarray:
    """What is left of the beam at every voxel: attenuation summed along rays, in coordinates slice, angle, radius."""
    n_rays, step = 121, min(spacing[1:])
    angles, radii = np.linspace(-np.pi / 2, np.pi / 2, n_rays), np.arange(0, radius.max() + step, step)
    slices = np.arange(attenuation.shape[0])
    z, a, r = np.meshgrid(slices, angles, radii, indexing="ij")
    y = (apex[0] - r * np.cos(a) - mm[1].min()) / spacing[1]
    x = (apex[1] + r * np.sin(a) - mm[2].min()) / spacing[2]
    passed = np.cumsum(map_coordinates(attenuation, (z, y, x), order=1, mode="nearest"), axis=2) * step
    passed = np.roll(passed, 1, axis=2)  # an echo comes from in front of what attenuates
    passed[:, :, 0] = 0
    places = np.broadcast_to(slices[:, None, None], radius.shape), (angle / np.pi + 0.5) * (n_rays - 1), radius / step
    return np.exp(-map_coordinates(passed, places, order=1, mode="nearest"))


def write_mr_us_dataset(
    folder: str | Path, n_train: int, n_test: int, seed: int, shape: Shape = SHAPE, spacing: Spacing = SPACING
) -> None:
    """Write pairs in nnU-Net's raw format, MR as channel 0 and fixed image, with `labelsTs` for the test cases.

    See `raw_dataset.write_raw_dataset`.

    Args:
        folder: named as nnU-Net wants it, e.g. `Dataset951_MrUsPhantom`.
        seed: of the whole dataset.

    Raises:
        XModalError: as mr_us_phantom.
    """
    make = cases_of(partial(mr_us_phantom, shape=shape, spacing=spacing), spacing)
    write_raw_dataset(folder, make, n_train, n_test, seed, "mrus", CHANNELS, {"background": 0, "prostate": 1})
