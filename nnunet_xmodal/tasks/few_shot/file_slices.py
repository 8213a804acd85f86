"""Which slice of its file a preprocessed slice is: what people read in a viewer, and write into a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_xmodal.datasets.turned_cases import FLIPPED
from nnunet_xmodal.geometry.orientation import source_of
from nnunet_xmodal.prediction.turning import AS_STORED


@dataclass(frozen=True)
class FileSlices:
    """Where the slices of a preprocessed case lie in its file.

    Attributes:
        axis: of the file along which they follow each other, 0 for z, 1 for y, 2 for x.
        first: number in the file of the first preprocessed slice, counted from 0.
        step: 1, or −1 where the file is stored the other way.
        count: preprocessed slices.
    """

    axis: int
    first: int
    step: int
    count: int

    def in_file(self, index: int) -> int:
        """Return the number in the file of a preprocessed slice."""
        return self.first + self.step * index

    def preprocessed(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Return the first and the last preprocessed slice between two of the file; the former is larger if none is."""
        ends = sorted(self.step * (number - self.first) for number in numbers)
        return max(ends[0], 0), min(ends[1], self.count - 1)

    def named(self, index: int) -> str:
        """Return what to call a preprocessed slice."""
        along = "" if self.axis == 0 else f" along {'zyx'[self.axis]}"
        return f"slice {self.in_file(index)}{along}"


def file_slices(properties: dict, transpose_forward: Sequence[int], count: int) -> FileSlices:
    """Follow a case back through nnU-Net's preprocessing and through what turned it.

    Slices are neither resampled nor reordered by `2d` plans: they are cropped, and may be turned before that, as
    prediction does, or behind it, as `TurnedCases` does.

    Args:
        properties: as nnU-Net's reader and preprocessor note them; without, slices are counted as they come.
        transpose_forward: of the plans.
        count: preprocessed slices.
    """
    first, step = 0, 1
    axis = int(transpose_forward[0])
    if 0 in properties.get(FLIPPED, ()):
        first, step = count - 1, -1
    if "bbox_used_for_cropping" in properties:
        first += int(properties["bbox_used_for_cropping"][0][0])
    noted = properties.get(AS_STORED)
    if noted is not None:
        source, backwards = source_of(2 - axis, noted["axes"], noted["turned_to"])
        axis = 2 - source
        if backwards:
            first, step = int(properties["shape_before_cropping"][0]) - 1 - first, -step
    return FileSlices(axis, first, step, count)
