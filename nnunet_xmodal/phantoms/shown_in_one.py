"""Phantoms whose lesions show in one modality only: whoever asks which modality counted knows the answer beforehand.

An organ, an ellipsoid, shows in T2W-like and in ADC-like volumes alike. Lesions are dark in ADC and invisible in T2W,
where benign foci of the same size and contrast lie at other places, which ADC does not show.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnunet_xmodal.phantoms.acquisition import acquired
from nnunet_xmodal.phantoms.ellipsoids import Ellipsoid, ellipsoids_within, millimetres_from_centre
from nnunet_xmodal.phantoms.raw_dataset import cases_of, write_raw_dataset

SHAPE = (8, 32, 32)
"""Voxels along z, y, x."""
SPACING = (4.0, 1.5, 1.5)
"""Millimetres along z, y, x."""
CHANNELS = ("T2W", "ADC")
SHOWS = 1
"""Number of the channel in which lesions show, the only one that counts."""
LABELS = {"background": 0, "lesion": 1}

_DARKER = (0.5, 0.6)  # by how much lesions and foci are, of the organ's intensity
_OUTSIDE = (1.4, 0.5)  # intensity around the organ, of the organ's
_SIZE_MM = (4.5, 6.0)  # mean radius
_UNITS = (600.0, 1500.0)
_MILLIMETRES = millimetres_from_centre(SHAPE, SPACING)


class OneModalityPhantom(NamedTuple):
    """An organ with lesions that one channel shows.

    Attributes:
        images: float32 `(2, z, y, x)`: T2W in arbitrary units, ADC in 10⁻⁶ mm²/s.
        label: uint8 `(z, y, x)`, 1 in lesions.
        dark: bool `(2, z, y, x)`, where T2W shows a focus and ADC a lesion.
    """

    images: np.ndarray
    label: np.ndarray
    dark: np.ndarray


def one_modality_phantom(rng: np.random.Generator) -> OneModalityPhantom:
    """Make one phantom with one or two lesions; equal states of `rng` give equal phantoms."""
    organ = Ellipsoid(rng.uniform(-1, 1, 3), rng.uniform((12, 18, 18), (14, 21, 21)))
    inside = organ.mask(_MILLIMETRES)
    anatomy = np.stack([np.where(inside, 1.0, outside) for outside in _OUTSIDE])
    dark = np.zeros((2, *SHAPE), bool)
    # one of each first, so that there is room for them
    shown_in = [SHOWS, 1 - SHOWS, *[SHOWS] * rng.integers(0, 2), *[1 - SHOWS] * rng.integers(0, 2)]
    for blob, channel in ellipsoids_within(organ, rng, shown_in, _SIZE_MM, gap=1.5):
        mask = blob.mask(_MILLIMETRES)
        dark[channel] |= mask
        anatomy[channel][mask] -= rng.uniform(*_DARKER)
    images = [
        unit * acquired(rng, tissue, SPACING, blur_mm=0.7, texture=0.15, noise=(0.02, 0.05))
        for tissue, unit in zip(anatomy, _UNITS)
    ]
    return OneModalityPhantom(np.stack(images).astype(np.float32), dark[SHOWS].astype(np.uint8), dark)


def write_one_modality_dataset(folder: str | Path, n_train: int, n_test: int, seed: int) -> None:
    """Write phantoms in nnU-Net's raw format, with `labelsTs` for the test cases.

    See `raw_dataset.write_raw_dataset`.

    Args:
        folder: named as nnU-Net wants it, e.g. `Dataset952_OneModality`.
        seed: of the whole dataset.
    """
    case = cases_of(one_modality_phantom, SPACING)
    write_raw_dataset(folder, case, n_train, n_test, seed, "onemodality", CHANNELS, LABELS)
