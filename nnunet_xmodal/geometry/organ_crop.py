"""Images cropped to an organ, and what was computed on them put back where it belongs.

Origin and direction stay right, so that a cropped image lies where it was cut out: nothing but the two files is needed
to paste it back.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.bounding_box import bounding_box
from nnunet_xmodal.geometry.resampling import SAME_TO


class Box(NamedTuple):
    """A box of voxels in an image.

    Attributes:
        start: first voxel along x, y, z.
        size: voxels along x, y, z.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]


def box_around(mask: sitk.Image, margin_mm: float) -> Box:
    """Return the smallest box with everything that is not 0 and at least `margin_mm` around it, as far as the image
    reaches.

    Raises:
        XModalError: for an empty mask.
    """
    inside = bounding_box(sitk.GetArrayViewFromImage(mask) != 0)[::-1]  # x y z
    if inside[0].stop == 0:
        raise XModalError("the organ's mask is empty: there is nothing to crop to.")
    margins = [int(np.ceil(margin_mm / mm - 1e-6)) for mm in mask.GetSpacing()]
    first = [max(part.start - margin, 0) for part, margin in zip(inside, margins)]
    behind = [min(part.stop + margin, side) for part, margin, side in zip(inside, margins, mask.GetSize())]
    return Box(tuple(first), tuple(b - a for a, b in zip(first, behind)))


def crop(image: sitk.Image, box: Box) -> sitk.Image:
    """Return the voxels of a box."""
    return sitk.RegionOfInterest(image, box.size, box.start)


def paste_back(cropped: sitk.Image, full: sitk.Image) -> sitk.Image:
    """Put an image back on the grid that it was cut out of, by its physical position, with 0 around it.

    Args:
        cropped: a prediction, or anything on the grid of a cropped image.
        full: gives the grid; its voxels do not matter.

    Returns:
        In the pixel type of `cropped`; voxels are copied, not interpolated.

    Raises:
        XModalError: where the voxels of both do not fall together, or `cropped` reaches beyond `full`.
    """
    last = [side - 1 for side in cropped.GetSize()]
    corners = [cropped.TransformIndexToPhysicalPoint(corner) for corner in ([0, 0, 0], last)]
    first, end = (np.array(full.TransformPhysicalPointToContinuousIndex(corner)) for corner in corners)
    start = np.round(first).astype(int)
    axes_agree = np.allclose(cropped.GetDirection(), full.GetDirection(), atol=1e-3)
    if not axes_agree or np.abs(first - start).max() > SAME_TO or np.abs(end - start - last).max() > SAME_TO:
        raise XModalError("the cropped image does not lie on voxels of the full one: give the one it was cut out of.")
    if (start < 0).any() or (start + cropped.GetSize() > np.array(full.GetSize())).any():
        raise XModalError("the cropped image reaches beyond the full one: give the one it was cut out of.")
    canvas = sitk.Image(full.GetSize(), cropped.GetPixelID())
    canvas.CopyInformation(full)
    return sitk.Paste(canvas, cropped, cropped.GetSize(), [0, 0, 0], start.tolist())


def empty_grid(
    size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
) -> sitk.Image:
    """Return an image of zeros, x, y, z: the `full` of `paste_back` where only its geometry was kept."""
    image = sitk.Image([int(side) for side in size], sitk.sitkUInt8)
    image.SetSpacing(list(spacing))
    image.SetOrigin(list(origin))
    image.SetDirection(list(direction))
    return image
