"""Phantoms: T2W-like and ADC-like volumes whose lesions only the two channels together tell from decoys.

Every phantom is an organ, an ellipsoid, with dark blobs in it. A lesion is dark in both channels; a decoy of the same
size and contrast is dark in one of them, so that either channel alone shows lesions and decoys alike.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnunet_xmodal.phantoms.acquisition import acquired
from nnunet_xmodal.phantoms.ellipsoids import Ellipsoid, ellipsoids_within, millimetres_from_centre
from nnunet_xmodal.phantoms.raw_dataset import cases_of, write_raw_dataset

SHAPE = (24, 48, 48)
"""Voxels along z, y, x."""
SPACING = (2.0, 1.0, 1.0)
"""Millimetres along z, y, x."""
CHANNELS = ("T2W", "ADC")

_DARK_IN = ((True, True), (True, False), (False, True))  # lesion, T2W-only decoy, ADC-only decoy
_MILLIMETRES = millimetres_from_centre(SHAPE, SPACING)


class Phantom(NamedTuple):
    """Two channels with lesions that are dark in both.

    Attributes:
        images: float32 `(2, z, y, x)`: T2W in arbitrary units, ADC in 10⁻⁶ mm²/s.
        label: uint8 `(z, y, x)`, 1 in lesions.
        dark: bool `(2, z, y, x)`, where each channel shows a blob, of a lesion or of a decoy.
    """

    images: np.ndarray
    label: np.ndarray
    dark: np.ndarray


def phantom_case(rng: np.random.Generator) -> Phantom:
    """Make one phantom; equal states of `rng` give equal phantoms."""
    radii = rng.uniform((17, 16, 18), (21, 20, 22))
    organ = Ellipsoid(rng.uniform(-2, 2, 3), radii)
    dark = np.zeros((2, *SHAPE), bool)
    depth = np.zeros((2, *SHAPE))
    for blob, dark_in in ellipsoids_within(organ, rng, _kinds(rng), (3.0, 6.0), gap=1.5):
        mask = blob.mask(_MILLIMETRES)
        for channel in range(2):
            if dark_in[channel]:
                dark[channel] |= mask
                depth[channel][mask] = rng.uniform(0.3, 0.5)  # of the organ's intensity
    images = []
    for outside, scale, darker in ((0.55, 600.0, depth[0]), (0.7, 1500.0, depth[1])):
        anatomy = np.where(organ.mask(_MILLIMETRES), 1.0, outside) - darker
        images.append(scale * acquired(rng, anatomy, SPACING, blur_mm=0.7, texture=0.25, noise=(0.04, 0.1)))
    label = (dark[0] & dark[1]).astype(np.uint8)  # blobs do not touch
    return Phantom(np.stack(images).astype(np.float32), label, dark)


def _kinds(rng: np.random.Generator) -> list[tuple[bool, bool]]:
    """In which channels each blob is dark; the first is a lesion, so that no label is empty."""
    return [_DARK_IN[0], *rng.permutation(np.repeat(_DARK_IN, rng.integers((0, 1, 1), (3, 4, 4)), axis=0))]


def write_phantom_dataset(folder: str | Path, n_train: int, n_test: int, seed: int) -> None:
    """Write phantoms in nnU-Net's raw format, with `labelsTs` for the test cases.

    See `raw_dataset.write_raw_dataset`.

    Args:
        folder: named as nnU-Net wants it, e.g. `Dataset950_Phantom`.
        seed: of the whole dataset.
    """
    labels = {"background": 0, "lesion": 1}
    write_raw_dataset(folder, cases_of(phantom_case, SPACING), n_train, n_test, seed, "phantom", CHANNELS, labels)
