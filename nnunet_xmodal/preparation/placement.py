"""Where each channel of a case lies: by its header, a transform, landmarks, or registration."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.resampling import coverage, onto_grid
from nnunet_xmodal.geometry.volume_grid import overlap
from nnunet_xmodal.preparation.similarity import mutual_information
from nnunet_xmodal.preparation.sources import SourceCase

_LITTLE = 0.5  # of the reference that a channel covers
_GAIN = 1.05  # interpolation alone changes mutual information by some per cent


@dataclass(frozen=True)
class Channel:
    """A channel before it is resampled.

    Attributes:
        matrix: `(4, 4)`, reference → image point in mm; None where headers alone place the channel.
        before, after: mutual information with the fixed channel before and after registration; None without it.
        notes: for the report.
    """

    image: sitk.Image
    matrix: np.ndarray | None = None
    before: float | None = None
    after: float | None = None
    notes: tuple[str, ...] = ()

    def noted(self, *notes: str) -> "Channel":
        """Return the channel with further notes."""
        return replace(self, notes=(*self.notes, *notes))


def placed(channels: Mapping[str, Channel], source: SourceCase, fixed: str) -> dict[str, Channel]:
    """Place channels by transforms and landmarks, where the case has them.

    Args:
        fixed: the channel that transforms start from.

    Raises:
        XModalError: for a file that cannot be read, and landmarks that are missing or too few.
    """
    if not source.transforms and not source.landmarks:
        return dict(channels)
    return {name: c if name == fixed else _placed(name, c, source, fixed) for name, c in channels.items()}


def _placed(name: str, channel: Channel, source: SourceCase, fixed: str) -> Channel:
    # torch takes seconds to import, and few datasets need it
    from nnunet_xmodal.files.landmarks import read_landmarks
    from nnunet_xmodal.geometry.given_transform import fit_landmarks, read_transform

    if name in source.transforms:
        file = source.transforms[name]
        return replace(channel, matrix=read_transform(file)).noted(f"aligned by {file.name}")
    if name not in source.landmarks:
        return channel
    if fixed not in source.landmarks:
        raise XModalError(f"{name} has landmarks but {fixed} has none: give those of both.")
    points = read_landmarks(source.landmarks[fixed]), read_landmarks(source.landmarks[name])
    matrix, left = fit_landmarks(*points)
    note = f"aligned by landmarks, {left:.2f} mm (root mean square) apart after it"
    return replace(channel, matrix=matrix).noted(note)


def check_overlap(
    channels: Mapping[str, Channel], source: SourceCase, reference: sitk.Image, name_of_reference: str
) -> dict[str, Channel]:
    """Check that every channel overlaps with the reference.

    Returns:
        The channels; those that cover little of it have a note.

    Raises:
        XModalError: for a channel that lies beside it.
    """
    covered = _coverage(channels, reference)
    for name, channel in channels.items():
        matrix = np.eye(4) if channel.matrix is None else channel.matrix
        if covered[name] == 0 and not overlap(reference, channel.image, matrix):
            raise XModalError(
                f"{name} ({source.images[name].name}) does not overlap with {name_of_reference}: they are of other "
                "patients or sessions, or need a transform or landmarks."
            )
    return _noted(channels, covered, name_of_reference)


def note_coverage(channels: Mapping[str, Channel], grid: sitk.Image, name: str) -> dict[str, Channel]:
    """Return the channels, with a note for those that cover less than half of a grid."""
    return _noted(channels, _coverage(channels, grid), name)


def _coverage(channels: Mapping[str, Channel], grid: sitk.Image) -> dict[str, float]:
    return {name: coverage(channel.image, grid, channel.matrix) for name, channel in channels.items()}


def _noted(channels: Mapping[str, Channel], covered: Mapping[str, float], grid: str) -> dict[str, Channel]:
    return {
        name: channel.noted(f"covers {100 * covered[name]:.0f} % of {grid}") if covered[name] < _LITTLE else channel
        for name, channel in channels.items()
    }


def registered(channels: Mapping[str, Channel], fixed: str, reference: sitk.Image) -> dict[str, Channel]:
    """Register all channels with the fixed one, by mutual information on the grid of the reference."""
    target = onto_grid(channels[fixed].image, reference, "linear")
    return {
        name: channel if name == fixed else _registered(channel, target, reference)
        for name, channel in channels.items()
    }


def _registered(channel: Channel, fixed: sitk.Image, reference: sitk.Image) -> Channel:
    from nnunet_xmodal.preparation.alignment import align  # imports torch, see above

    start = np.eye(4) if channel.matrix is None else channel.matrix
    moved = onto_grid(channel.image, reference, "linear", channel.matrix)
    found = start @ align(fixed, moved)
    again = onto_grid(channel.image, reference, "linear", found)
    inside = _seen(channel.image, reference, start) & _seen(channel.image, reference, found)
    target = sitk.GetArrayViewFromImage(fixed)
    before, after = (mutual_information(target, sitk.GetArrayViewFromImage(image), inside) for image in (moved, again))
    channel = replace(channel, before=before, after=after)
    if not after > _GAIN * before:
        return channel.noted("registration found nothing much better and was left out")
    middle = np.array(reference.TransformContinuousIndexToPhysicalPoint([(s - 1) / 2 for s in reference.GetSize()]))
    shift = float(np.linalg.norm((found - start)[:3] @ [*middle, 1]))
    return replace(channel, matrix=found).noted(f"registration moved its middle by {shift:.2f} mm")


def _seen(image: sitk.Image, reference: sitk.Image, matrix: np.ndarray) -> np.ndarray:
    ones = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(image)
    return sitk.GetArrayFromImage(onto_grid(ones, reference, "nearest", matrix)) > 0
