"""Phantoms of the fusion study: two channels whose lesions neither of them tells alone, in four regimes.

The lesions and decoys are those of `nnunet_xmodal.phantoms.two_channel`; a regime adds correlated noise, moves
the second channel, degrades a channel in a part of the cases, or leaves few cases to train on.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, shift

from nnunet_xmodal.phantoms.raw_dataset import RawCase, Split, write_raw_dataset
from nnunet_xmodal.phantoms.two_channel import CHANNELS, SPACING, phantom_case

_UNITS = np.array([600.0, 1500.0])[:, None, None, None]  # of both channels' organs
_SLICES = slice(8, 16)  # of 24: those in the middle of the organ
_CORRELATION = 0.6  # voxels within a slice, sigma of the noise
_SMALLEST_LESION = 30  # voxels of a case; Dice of next to nothing is a matter of chance


@dataclass(frozen=True)
class Regime:
    """What makes a dataset difficult.

    Attributes:
        noise: standard deviation of the added noise, of the organ's intensity.
        shift_mm: least and largest length of the in-plane displacement of the second channel, in a random direction.
        degraded: share of the cases in which one channel, by chance either, has four times the noise.
        absent: share of the cases in which one channel holds nothing but noise.
        training_cases: of every fold.
    """

    noise: float
    shift_mm: tuple[float, float] = (0.0, 0.0)
    degraded: float = 0.0
    absent: float = 0.0
    training_cases: int = 40


REGIMES = {
    "aligned": Regime(noise=0.25),
    "shifted": Regime(noise=0.2, shift_mm=(1.0, 3.0)),
    "degraded": Regime(noise=0.15, degraded=0.2, absent=0.2),
    "few": Regime(noise=0.2, training_cases=5),
}


def study_case(regime: Regime, rng: np.random.Generator) -> RawCase:
    """Draw a case of a regime; equal states of `rng` give equal cases, and regimes share lesions and decoys."""
    phantom = phantom_case(rng)
    while phantom.label[_SLICES].sum() < _SMALLEST_LESION:
        phantom = phantom_case(rng)
    images = phantom.images[:, _SLICES] / _UNITS  # (2, z, y, x)
    length, angle = rng.uniform(*regime.shift_mm), rng.uniform(0, 2 * np.pi)
    if length:
        offset = length * np.array([np.sin(angle), np.cos(angle)]) / SPACING[1:]
        images[1] = shift(images[1], (0, *offset), order=1, mode="nearest")
    drawn, channel = rng.uniform(), rng.integers(2)
    amounts = np.full(2, regime.noise)
    if drawn < regime.absent:
        images[channel] = images[channel].mean()
    elif drawn < regime.absent + regime.degraded:
        amounts[channel] *= 4
    noise = gaussian_filter(rng.normal(size=images.shape), (0, 0, _CORRELATION, _CORRELATION))
    noise *= amounts[:, None, None, None] / noise.std(axis=(1, 2, 3), keepdims=True)
    images = np.maximum(images + noise, 0.01)  # nnU-Net crops what is zero in all channels
    return RawCase((images * _UNITS).astype(np.float32), phantom.label[_SLICES], SPACING)


def write_study_dataset(folder: Path, regime: Regime, cases: int, seed: int) -> None:
    """Write cases of a regime in nnU-Net's raw format, see `raw_dataset.write_raw_dataset`."""

    def make(rng: np.random.Generator, split: Split, index: int) -> RawCase:
        return study_case(regime, rng)

    write_raw_dataset(folder, make, cases, 0, seed, "case", CHANNELS, {"background": 0, "lesion": 1})


def folds_of(regime: Regime, cases: list[str], folds: int = 5) -> list[dict[str, list[str]]]:
    """Return nnU-Net's splits: every case is validated once, and no case is trained on in two folds.

    A fold trains on the first cases of the next fold's validation, so that trainings of a dataset share nothing.

    Raises:
        ValueError: if a fold has fewer cases than the regime trains on.
    """
    blocks = [cases[fold::folds] for fold in range(folds)]
    if min(map(len, blocks)) < regime.training_cases:
        raise ValueError(f"{len(cases)} cases in {folds} folds leave too few for {regime.training_cases} to train on")
    return [{"train": blocks[(k + 1) % folds][: regime.training_cases], "val": blocks[k]} for k in range(folds)]
