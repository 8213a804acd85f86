"""Prostate phantoms: T2W-like and ADC-like volumes that agree on gland and lesions, each with findings of its own.

A gland, an ellipsoid, holds a transition zone in front and a peripheral zone around and behind it, as in T2W and ADC
images of the prostate: the peripheral zone is bright in both, the transition zone darker. Around the gland is fat,
bright in T2W and dark in ADC. Lesions are dark in both. Benign foci are as dark and as large, but in one channel: as
haemorrhage, prostatitis or nodules of stroma, they look suspicious in one sequence and not in the other. So either
channel alone shows the gland and every lesion, and some foci that only the other one tells from lesions. ADC is blurred
and noisier than T2W.

Shapes are ellipsoids and contrasts are stronger than in patients, so that minutes of training suffice.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from nnunet_xmodal.phantoms.raw_dataset import RawCase, Split, write_raw_dataset

SHAPE = (10, 40, 40)
"""Voxels along z, y, x."""
SPACING = (3.6, 1.2, 1.2)
"""Millimetres along z, y, x."""
CHANNELS = ("T2W", "ADC")
LABELS = {"background": 0, "prostate": 1, "lesion": 2}

_T2W, _ADC = range(2)
# of the peripheral zone's intensity: surroundings, peripheral zone, transition zone
_TISSUE = ((1.5, 1.0, 0.85), (0.5, 1.0, 0.9))
_DARKER = ((0.5, 0.6), (0.5, 0.6))  # by how much lesions and benign foci are
_BLUR_MM = (0.6, 1.0)
_NOISE = ((0.02, 0.04), (0.02, 0.05))
_UNITS = (600.0, 1500.0)
_MILLIMETRES = np.stack(
    np.meshgrid(*((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(SHAPE, SPACING)), indexing="ij")
)  # 3 z y x, from the centre


class ProstatePhantom(NamedTuple):
    """A prostate with its lesions.

    Attributes:
        images: float32 `(2, z, y, x)`: T2W in arbitrary units, ADC in 10⁻⁶ mm²/s.
        label: uint8 `(z, y, x)`: 1 in the gland, 2 in lesions.
        dark: bool `(2, z, y, x)`, where each channel shows a lesion or a benign focus.
    """

    images: np.ndarray
    label: np.ndarray
    dark: np.ndarray


def prostate_phantom(rng: np.random.Generator) -> ProstatePhantom:
    """Make one phantom with one or two lesions; equal states of `rng` give equal phantoms."""
    radii = rng.uniform((14, 13, 16), (16, 17, 20))
    centre = rng.uniform(-2, 2, 3)
    gland = _ellipsoid(centre, radii)
    transition = _ellipsoid(
        centre + (0, -0.25 * radii[1], 0), radii * rng.uniform((0.7, 0.55, 0.55), (0.85, 0.65, 0.7))
    )
    zones = [~gland, gland & ~transition, gland & transition]
    anatomy = np.stack([sum(value * zone for value, zone in zip(values, zones)) for values in _TISSUE])
    lesions = np.zeros(SHAPE, bool)
    dark = np.zeros((2, *SHAPE), bool)
    for focus, channels in _foci(rng, centre, radii):
        for channel in channels:
            dark[channel] |= focus
            anatomy[channel][focus] -= rng.uniform(*_DARKER[channel])
        if len(channels) == 2:
            lesions |= focus
    images = np.stack([_acquired(rng, anatomy[channel], channel) for channel in range(2)])
    return ProstatePhantom(images.astype(np.float32), (gland + lesions.astype(np.uint8)).astype(np.uint8), dark)


def _foci(
    rng: np.random.Generator, centre: np.ndarray, radii: np.ndarray
) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """Pairs of a mask and the channels in which it is dark; lesions first, so that there is room for one."""
    kinds = [(_T2W, _ADC)] * rng.integers(1, 3) + [(_T2W,)] * rng.integers(0, 3) + [(_ADC,)] * rng.integers(0, 3)
    placed: list[tuple[np.ndarray, float]] = []
    for channels in kinds:
        for _ in range(50):  # a gland full of foci may have no room for this one
            size = rng.uniform(5.0, 7.0) * rng.uniform(0.8, 1.2, 3)
            reach = size.max()
            direction = rng.normal(size=3)
            fraction = rng.uniform() ** (1 / 3)  # uniform in the ellipsoid
            position = centre + fraction * direction / np.linalg.norm(direction) * (radii - reach)
            if all(np.linalg.norm(position - other) > reach + other_reach + 2 for other, other_reach in placed):
                placed.append((position, reach))
                yield _ellipsoid(position, size), channels
                break


def _ellipsoid(centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    offset = (_MILLIMETRES - centre[:, None, None, None]) / radii[:, None, None, None]
    return (offset**2).sum(0) <= 1


def _acquired(rng: np.random.Generator, anatomy: np.ndarray, channel: int) -> np.ndarray:
    """Blur, tissue texture, a smooth bias of up to about 20 percent, and noise."""
    texture = 0.2 * gaussian_filter(rng.normal(size=SHAPE), 1.5 / np.array(SPACING))
    bias = np.tensordot(rng.uniform(-0.1, 0.1, 3), _MILLIMETRES / np.abs(_MILLIMETRES).max(), 1)
    noise = rng.uniform(*_NOISE[channel]) * rng.normal(size=SHAPE)
    blurred = gaussian_filter(anatomy, _BLUR_MM[channel] / np.array(SPACING))
    image = (blurred + texture) * np.exp(bias) * rng.uniform(0.85, 1.15) + noise
    return _UNITS[channel] * np.maximum(image, 0.01)  # nnU-Net crops what is zero in all channels


def write_prostate_dataset(folder: str | Path, n_train: int, n_test: int, seed: int) -> None:
    """Write phantoms in nnU-Net's raw format, with `labelsTs` for the test cases.

    See `raw_dataset.write_raw_dataset`.

    Args:
        folder: named as nnU-Net wants it, e.g. `Dataset951_ProstatePhantom`.
        seed: of the whole dataset.
    """

    def make(rng: np.random.Generator, split: Split, index: int) -> RawCase:
        phantom = prostate_phantom(rng)
        return RawCase(phantom.images, phantom.label, SPACING)

    write_raw_dataset(folder, make, n_train, n_test, seed, "prostate", CHANNELS, LABELS)
