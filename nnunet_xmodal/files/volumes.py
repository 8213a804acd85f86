"""Volumes with a place in physical space of their own, read by SimpleITK; what cannot be registered is said.

nnU-Net's reader, and the check of training images, want all channels on one grid. Here every file stands for itself.
"""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.scan import read_whole

_LARGEST_RATIO = 20  # of the extents of two images of one organ


def read_volume(file: Path) -> sitk.Image:
    """Read a volume of at least two voxels along each axis, in the pixel type of the file.

    Raises:
        XModalError: for a file that cannot be read in full, holds NaN or infinity, is no volume of one channel, or has
            axes that are not at right angles.
    """
    if not file.is_file():
        raise XModalError(f"{file} does not exist.")
    image = read_whole(file)
    sides = image.GetSize()
    shown = "×".join(map(str, sides))
    if len(sides) != 3:
        raise XModalError(f"{file} holds {shown} voxels, which is no single volume: give one volume per file.")
    if min(sides) < 2:
        raise XModalError(f"{file} is a single slice ({shown} voxels): registration needs volumes.")
    return image


def check_not_constant(image: sitk.Image, file: Path) -> None:
    """Refuse an image in which nothing is to be seen.

    Raises:
        XModalError: where all voxels have one value.
    """
    voxels = sitk.GetArrayViewFromImage(image)
    if voxels.min() == voxels.max():
        raise XModalError(
            f"{file} has the value {voxels.flat[0]:g} everywhere: there is nothing to register, replace the image."
        )


def check_same_unit(fixed: sitk.Image, moving: sitk.Image, fixed_file: Path, moving_file: Path) -> None:
    """Check that two volumes are of similar size, as those of one organ in one unit are.

    Raises:
        XModalError: where the diagonal of one volume is more than twenty times that of the other.
    """
    of_fixed, of_moving = (float(np.linalg.norm(np.multiply(i.GetSize(), i.GetSpacing()))) for i in (fixed, moving))
    ratio = of_fixed / of_moving
    if not 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO:
        raise XModalError(
            f"{moving_file} measures {of_moving:.3g} mm from corner to corner and {fixed_file} {of_fixed:.3g} mm: if "
            "one of them is not in millimetres, correct its spacing."
        )
