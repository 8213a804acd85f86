"""How much memory a prediction may take: `--max_memory`.

One process then does everything, one case after the other, and sums of tiles go to the disk where they do not fit. What
nnU-Net needs to read and preprocess a case stays: copies of its channels in single precision.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import SimpleITK as sitk
import torch

from nnunet_xmodal.errors import XModalError

COPIES = 4
"""Of all channels in float32 that nnU-Net holds at once at most while it reads and resamples a case (measured)."""

_BESIDE = 1.0  # GB: Python, torch, the network of a usual plan and what it makes of a tile
_GB = 1e9


class ReadCase(Protocol):
    """A case as predictors know it."""

    @property
    def name(self) -> str:
        """Return the name that its files begin with."""

    @property
    def images(self) -> list[Path]:
        """Return a file per channel."""


@dataclass(frozen=True)
class MemoryLimit:
    """A limit, and the folder on whose disk results lie beyond it.

    Attributes:
        gigabytes: of 10⁹ bytes.
    """

    gigabytes: float
    folder: Path

    def holds(self, data: torch.Tensor, heads: int, folds: int) -> bool:
        """Return whether the results of a case fit into the memory beside its preprocessed data.

        Args:
            data: `(C, *spatial)`.
            folds: several are summed, which takes results twice.
        """
        results = data[0].numel() * 2 * (heads * min(folds, 2) + 1)
        return _BESIDE + (data.numel() * data.element_size() + 2 * results) / _GB <= self.gigabytes

    def check(self, cases: Iterable[ReadCase], target_spacing: list[float] | None = None) -> None:
        """Check that every case can be read and preprocessed within the limit, by the headers of its images.

        Args:
            target_spacing: of the plans in mm; None for plans that resample within slices.

        Raises:
            XModalError: names the largest case and what it needs.
        """
        needed = {case.name: _gigabytes(case.images, target_spacing) for case in cases}
        if not needed:
            return
        largest = max(needed, key=lambda name: needed[name])
        if needed[largest] > self.gigabytes:
            raise XModalError(
                f"--max_memory {self.gigabytes:g}: {largest} takes about {needed[largest]:.1f} GB to read and to "
                f"preprocess: give {needed[largest]:.1f} or more, or a smaller image (--roi crops to an organ)."
            )


def _gigabytes(images: list[Path], target_spacing: list[float] | None) -> float:
    header = sitk.ImageFileReader()
    header.SetFileName(str(images[0]))
    try:
        header.ReadImageInformation()
    except RuntimeError:  # said by whoever reads it
        return 0.0
    voxels = 1.0
    for side in header.GetSize():
        voxels *= side
    finer = 1.0
    if target_spacing is not None and len(target_spacing) == len(header.GetSpacing()):
        for own, planned in zip(sorted(header.GetSpacing()), sorted(target_spacing)):
            finer *= own / planned
    return _BESIDE + COPIES * len(images) * 4 * voxels * max(1.0, finer) / _GB
