"""Phantoms: T2W-like and ADC-like volumes whose lesions only the two channels together tell from decoys.

Every phantom is an organ, an ellipsoid, with dark blobs in it. A lesion is dark in both channels; a decoy of the same
size and contrast is dark in one of them, so that either channel alone shows lesions and decoys alike.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from nnunet_xmodal.phantoms.raw_dataset import RawCase, Split, write_raw_dataset

SHAPE = (24, 48, 48)
"""Voxels along z, y, x."""
SPACING = (2.0, 1.0, 1.0)
"""Millimetres along z, y, x."""
CHANNELS = ("T2W", "ADC")

_DARK_IN = ((True, True), (True, False), (False, True))  # lesion, T2W-only decoy, ADC-only decoy
_MILLIMETRES = np.stack(
    np.meshgrid(*((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(SHAPE, SPACING)), indexing="ij")
)  # 3 z y x, from the centre


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
    organ, organ_radii, organ_centre = _organ(rng)
    dark = np.zeros((2, *SHAPE), bool)
    depth = np.zeros((2, *SHAPE))
    for blob, dark_in in _blobs(rng, organ_centre, organ_radii):
        for channel in range(2):
            if dark_in[channel]:
                dark[channel] |= blob
                depth[channel][blob] = rng.uniform(0.3, 0.5)  # of the organ's intensity
    images = np.stack(
        [
            scale * _acquired(rng, outside + (inside - outside) * organ - depth[channel])
            for channel, (outside, inside, scale) in enumerate(((0.55, 1.0, 600.0), (0.7, 1.0, 1500.0)))
        ]
    )
    label = (dark[0] & dark[1]).astype(np.uint8)  # blobs do not touch
    return Phantom(images.astype(np.float32), label, dark)


def _organ(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask, radii and centre in millimetres of the organ."""
    radii = rng.uniform((17, 16, 18), (21, 20, 22))
    centre = rng.uniform(-2, 2, 3)
    return _ellipsoid(centre, radii), radii, centre


def _blobs(
    rng: np.random.Generator, organ_centre: np.ndarray, organ_radii: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of a mask and the channels in which it is dark; the first is a lesion, so that no label is empty."""
    kinds = [_DARK_IN[0], *rng.permutation(np.repeat(_DARK_IN, rng.integers((0, 1, 1), (3, 4, 4)), axis=0))]
    placed: list[tuple[np.ndarray, float]] = []
    for dark_in in kinds:
        for _ in range(50):  # an organ full of blobs may have no room for this one
            radii = rng.uniform(3.0, 6.0) * rng.uniform(0.8, 1.2, 3)
            reach = radii.max()
            direction = rng.normal(size=3)
            fraction = rng.uniform() ** (1 / 3)  # uniform in the ellipsoid
            centre = organ_centre + fraction * direction / np.linalg.norm(direction) * (organ_radii - reach)
            if all(np.linalg.norm(centre - other) > reach + other_reach + 1.5 for other, other_reach in placed):
                placed.append((centre, reach))
                yield _ellipsoid(centre, radii), dark_in
                break


def _ellipsoid(centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    offset = (_MILLIMETRES - centre[:, None, None, None]) / radii[:, None, None, None]
    return (offset**2).sum(0) <= 1


def _acquired(rng: np.random.Generator, anatomy: np.ndarray) -> np.ndarray:
    """Partial volume, tissue texture, a smooth bias of up to about 20 percent, and noise."""
    sigma = 0.7 / np.array(SPACING)
    texture = 0.25 * gaussian_filter(rng.normal(size=SHAPE), 1.5 / np.array(SPACING))
    bias = np.tensordot(rng.uniform(-0.1, 0.1, 3), _MILLIMETRES / np.abs(_MILLIMETRES).max(), 1)
    noise = rng.uniform(0.04, 0.1) * rng.normal(size=SHAPE)
    image = (gaussian_filter(anatomy, sigma) + texture) * np.exp(bias) * rng.uniform(0.85, 1.15) + noise
    return np.maximum(image, 0.01)  # nnU-Net crops what is zero in all channels


def write_phantom_dataset(folder: str | Path, n_train: int, n_test: int, seed: int) -> None:
    """Write phantoms in nnU-Net's raw format, with `labelsTs` for the test cases.

    See `raw_dataset.write_raw_dataset`.

    Args:
        folder: named as nnU-Net wants it, e.g. `Dataset950_Phantom`.
        seed: of the whole dataset.
    """

    def make(rng: np.random.Generator, split: Split, index: int) -> RawCase:
        phantom = phantom_case(rng)
        return RawCase(phantom.images, phantom.label, SPACING)

    write_raw_dataset(folder, make, n_train, n_test, seed, "phantom", CHANNELS, {"background": 0, "lesion": 1})
