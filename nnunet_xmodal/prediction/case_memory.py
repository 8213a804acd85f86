"""What a case takes in memory while nnU-Net reads, preprocesses and exports it: how many arrays are held at once.

Counted in nnU-Net 2.8.1 and measured by the process's own memory: 8.95 GB for 512×512×600 voxels of two channels that
plans resample to 585×585×600, where these rules, with 1 GB for the rest, say 9.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import SimpleITK as sitk
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape, determine_do_sep_z_and_axis
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

_SINGLE, _DOUBLE, _HALF = 4, 8, 2  # bytes per voxel
_COORDINATES = 10 * _DOUBLE
"""Bytes per voxel of the result, where slices are resampled first within and then between them: of one channel three
coordinates are held twice while the next one's three are made."""


_SPLINE_MARGIN = 12  # voxels that scipy lays around an image of which it makes cubic splines


@dataclass(frozen=True)
class CaseMemory:
    """A case's voxels, as it lies in its files and on the network's grid.

    Attributes:
        channels: of its images.
        own, planned: voxels before and after resampling.
        apart: slices are resampled within and then between, on the way there or back.
        splines: voxels of which splines are made before resampling, with a margin; 0 for linear interpolation.
        one_hot: channels that the second stage of a cascade reads beside the images.
    """

    channels: int
    own: int
    planned: int
    apart: bool = False
    splines: int = 0
    one_hot: int = 0

    @classmethod
    def of_files(
        cls, images: Sequence[Path], plans: PlansManager, configuration: ConfigurationManager, one_hot: int = 0
    ) -> "CaseMemory | None":
        """Return the numbers of a case by its first image's header, None where that cannot be read (whoever reads the
        image says so). What lies outside of the non-zero region, and is cut away, counts as well.
        """
        header = sitk.ImageFileReader()
        header.SetFileName(str(images[0]))
        try:
            header.ReadImageInformation()
        except RuntimeError:
            return None
        size, spacing = list(header.GetSize())[::-1], list(header.GetSpacing())[::-1]
        own = prod(size)
        if len(size) != 3:  # natural images are not resampled
            return cls(len(images), own, own, one_hot=one_hot)
        size, spacing = ([values[axis] for axis in plans.transpose_forward] for values in (size, spacing))
        target = list(configuration.spacing)
        if len(target) == 2:
            target = [spacing[0], *target]
        planned = compute_new_shape(size, spacing, target).tolist()
        options = configuration.configuration["resampling_fn_data_kwargs"]
        slice_by_slice, axis = determine_do_sep_z_and_axis(options.get("force_separate_z", False), spacing, target)
        apart = bool(slice_by_slice) and size[axis or 0] != planned[axis or 0]
        by_splines = not slice_by_slice and options.get("order", 3) > 1
        splines = prod(side + 2 * _SPLINE_MARGIN for side in size) if by_splines else 0
        return cls(len(images), own, prod(planned), apart, splines, one_hot)

    @property
    def preprocessed(self) -> int:
        """Return the bytes of what the network reads."""
        return _SINGLE * (self.channels + self.one_hot) * self.planned

    def to_prepare(self) -> int:
        """Return the bytes that are held at most until the case is preprocessed.

        The channels as read and a copy that is normalised; a mask and what it is made from; where the grid changes,
        the channels in double precision, the result, and one channel on its way.
        """
        twice = 2 * _SINGLE * self.channels * self.own
        if self.own == self.planned:
            return twice + _DOUBLE * self.own + self.preprocessed
        on_the_way = self._on_the_way(self.planned) + 2 * _DOUBLE * self.splines
        return twice + _DOUBLE * self.channels * self.own + self.preprocessed + on_the_way

    def to_export(self, at_once: int = 1) -> int:
        """Return the bytes that a label map takes beside the logits: what the network has read, classes on their way,
        and what is kept of them.

        Args:
            at_once: classes that are resampled at a time; 1 where the highest so far is kept, all of them where
                probabilities are.
        """
        kept = 2 * _HALF + 2 if at_once == 1 else at_once * (_HALF + 3 * _SINGLE)
        classes = _DOUBLE * at_once * self.planned + self._on_the_way(self.own)
        return self.preprocessed + self.planned + classes + kept * self.own

    def to_sum(self, heads: int) -> int:
        """Return the bytes of sums of probabilities that are kept beside the logits: of a fold, divided by their
        weights, the folds' mean, and what its entropy is made from.
        """
        return (4 * heads + 1) * _SINGLE * self.planned + self.preprocessed

    def _on_the_way(self, result: int) -> int:
        if self.apart:
            return _COORDINATES * result + _DOUBLE * max(self.own, self.planned)
        return _DOUBLE * result
