"""Prostate phantoms: T2W-like and ADC-like volumes that agree on gland and lesions, each with findings of its own.

A gland, an ellipsoid, holds a transition zone in front and a peripheral zone around and behind it, as in T2W and ADC
images of the prostate: the peripheral zone is bright in both, the transition zone darker. Around the gland is fat,
bright in T2W and dark in ADC. Lesions are dark in both. Benign foci are as dark and as large, but in one channel: as
haemorrhage, prostatitis or nodules of stroma, they look suspicious in one sequence and not in the other. So either
channel alone shows the gland and every lesion, and some foci that only the other one tells from lesions. ADC is blurred
and noisier than T2W.

Shapes are ellipsoids and contrasts are stronger than in patients, so that minutes of training suffice.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnunet_xmodal.phantoms.acquisition import acquired
from nnunet_xmodal.phantoms.ellipsoids import Ellipsoid, ellipsoids_within, millimetres_from_centre
from nnunet_xmodal.phantoms.raw_dataset import cases_of, write_raw_dataset

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
_SIZE_MM = (5.0, 7.0)  # mean radius of lesions and benign foci
_BLUR_MM = (0.6, 1.0)
_TEXTURE = 0.2
_NOISE = ((0.02, 0.04), (0.02, 0.05))
_UNITS = (600.0, 1500.0)
_MILLIMETRES = millimetres_from_centre(SHAPE, SPACING)


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
    prostate = Ellipsoid(centre, radii)
    gland = prostate.mask(_MILLIMETRES)
    inner = radii * rng.uniform((0.7, 0.55, 0.55), (0.85, 0.65, 0.7))
    transition = Ellipsoid(centre + (0, -0.25 * radii[1], 0), inner).mask(_MILLIMETRES)
    zones = [~gland, gland & ~transition, gland & transition]
    anatomy = np.stack([sum(value * zone for value, zone in zip(values, zones)) for values in _TISSUE])
    lesions = np.zeros(SHAPE, bool)
    dark = np.zeros((2, *SHAPE), bool)
    for focus, channels in ellipsoids_within(prostate, rng, _kinds(rng), _SIZE_MM, gap=2.0):
        mask = focus.mask(_MILLIMETRES)
        for channel in channels:
            dark[channel] |= mask
            anatomy[channel][mask] -= rng.uniform(*_DARKER[channel])
        if len(channels) == 2:
            lesions |= mask
    images = [
        unit * acquired(rng, tissue, SPACING, blur, _TEXTURE, noise)
        for tissue, blur, noise, unit in zip(anatomy, _BLUR_MM, _NOISE, _UNITS)
    ]
    return ProstatePhantom(
        np.stack(images).astype(np.float32), (gland + lesions.astype(np.uint8)).astype(np.uint8), dark
    )


def _kinds(rng: np.random.Generator) -> list[tuple[int, ...]]:
    """The channels in which each focus is dark; lesions first, so that there is room for one."""
    lesions, in_t2w, in_adc = rng.integers(1, 3), rng.integers(0, 3), rng.integers(0, 3)
    return [*[(_T2W, _ADC)] * lesions, *[(_T2W,)] * in_t2w, *[(_ADC,)] * in_adc]


def write_prostate_dataset(folder: str | Path, n_train: int, n_test: int, seed: int) -> None:
    """Write phantoms in nnU-Net's raw format, with `labelsTs` for the test cases.

    See `raw_dataset.write_raw_dataset`.

    Args:
        folder: named as nnU-Net wants it, e.g. `Dataset951_ProstatePhantom`.
        seed: of the whole dataset.
    """
    write_raw_dataset(folder, cases_of(prostate_phantom, SPACING), n_train, n_test, seed, "prostate", CHANNELS, LABELS)
