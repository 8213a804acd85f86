"""Generated cases as a raw dataset of nnU-Net."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.volume_writer import write_volume

Split = Literal["Tr", "Ts"]
Shape: TypeAlias = Sequence[int]
"""Voxels along z, y, x."""
Spacing: TypeAlias = Sequence[float]
"""Millimetres along z, y, x."""


@dataclass(frozen=True)
class RawCase:
    """The volumes that are written of a case; all volumes `(z, y, x)` of one shape.

    Attributes:
        images: one per channel, or all in one array `(C, z, y, x)`.
        label: of integers.
        spacing: mm along z, y, x.
        direction: cosines of the axes x, y, z as columns, `(3, 3)`; the identity if None.
        beside: further volumes by the folder that they go to.
    """

    images: Sequence[np.ndarray] | np.ndarray
    label: np.ndarray
    spacing: Sequence[float]
    direction: np.ndarray | None = None
    beside: Mapping[str, np.ndarray] = field(default_factory=dict)


class LabelledPhantom(Protocol):
    """A phantom with nothing but images and a label."""

    @property
    def images(self) -> np.ndarray:
        """Return one volume per channel, `(C, z, y, x)`."""

    @property
    def label(self) -> np.ndarray:
        """Return the label, `(z, y, x)`."""


def cases_of(
    phantom: Callable[[np.random.Generator], LabelledPhantom], spacing: Spacing
) -> Callable[[np.random.Generator, Split, int], RawCase]:
    """Return what `write_raw_dataset` makes cases with, the same in both splits."""

    def make(rng: np.random.Generator, split: Split, index: int) -> RawCase:
        made = phantom(rng)
        return RawCase(made.images, made.label, spacing)

    return make


def write_raw_dataset(
    folder: str | Path,
    make: Callable[[np.random.Generator, Split, int], RawCase],
    n_train: int,
    n_test: int,
    seed: int,
    prefix: str,
    channel_names: Sequence[str],
    labels: Mapping[str, int],
) -> None:
    """Write `<prefix>_tr000` and so on, and `<prefix>_ts000` with their labels in `labelsTs`.

    Every case has a random stream of its own, so that more cases do not change the others; dataset.json comes last:
    where it is, everything else is.

    Args:
        folder: named as nnU-Net wants it, e.g. `Dataset950_Phantom`.
        make: a case from its random stream, its split and its number.
        seed: of the whole dataset.
    """
    folder = Path(folder)
    counts: tuple[tuple[Split, int], ...] = (("Tr", n_train), ("Ts", n_test))
    for part, (split, count) in enumerate(counts):
        for index in range(count):
            case = make(np.random.default_rng((seed, part, index)), split, index)
            name = f"{prefix}_{split.lower()}{index:03d}"
            files = {f"images{split}/{name}_{channel:04d}": image for channel, image in enumerate(case.images)}
            files[f"labels{split}/{name}"] = case.label
            files |= {f"{beside}/{name}": volume for beside, volume in case.beside.items()}
            for file, volume in files.items():
                _write(volume, case, folder / f"{file}.nii.gz")
    dataset = {
        "channel_names": {str(index): name for index, name in enumerate(channel_names)},
        "labels": dict(labels),
        "numTraining": n_train,
        "file_ending": ".nii.gz",
    }
    write_json(dataset, folder / "dataset.json")


def _write(volume: np.ndarray, case: RawCase, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing([float(mm) for mm in case.spacing][::-1])
    if case.direction is not None:
        image.SetDirection(case.direction.ravel().tolist())
    write_volume(image, file)
