"""Preprocessed cases as if all were stored along the same axes, for what is chosen and measured slice by slice."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_xmodal.datasets.preprocessed_cases import PreprocessedCases
from nnunet_xmodal.datasets.stored_axes import axes_noted
from nnunet_xmodal.geometry.orientation import backward_axes, only_backwards

FLIPPED = "flipped_axes"
"""In the properties of a case that was turned: which of its preprocessed axes, from 0, run the other way."""


class TurnedCases:
    """A dataset of nnU-Net, or like it, whose cases run the way that is wanted.

    Cases whose axes lie in other places, as sagittal slices among axial ones do, stay as they are: preprocessing has
    resampled them within their own slices.

    Args:
        dataset: with `identifiers` and `load_case`.
        axes: code that is wanted; None turns nothing.
        transpose_forward: of the plans: which of z, y, x the axes of a preprocessed array are.
    """

    def __init__(self, dataset: PreprocessedCases, axes: str | None, transpose_forward: Sequence[int]) -> None:
        self.dataset, self.axes, self.order = dataset, axes, list(transpose_forward)

    @property
    def identifiers(self) -> list[str]:
        """Return the names of the cases."""
        return list(self.dataset.identifiers)

    def load_case(self, case: str) -> tuple[Any, Any, Any, dict]:
        """Load a case as nnU-Net's dataset does; what is turned is in memory."""
        data, segmentation, previous, properties = self.dataset.load_case(case)
        wanted = self.axes
        stored = axes_noted(properties) if wanted else None
        if wanted is None or stored is None or stored == wanted or not only_backwards(stored, wanted):
            return data, segmentation, previous, properties
        flips = tuple(1 + self.order.index(2 - axis) for axis in backward_axes(stored, wanted))
        turned = [
            None if part is None else np.flip(np.asarray(part[:]), flips) for part in (data, segmentation, previous)
        ]
        return turned[0], turned[1], turned[2], {**properties, FLIPPED: tuple(axis - 1 for axis in flips)}
