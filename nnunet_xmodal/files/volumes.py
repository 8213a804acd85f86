"""Volumes with a place in physical space of their own, read by SimpleITK; what cannot be registered is said.

nnU-Net's reader, and the check of training images, want all channels on one grid. Here every file stands for itself.
"""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.images import read_image

_ORTHOGONAL_TO = 1e-4  # as `geometry.grid_chain`
_LARGEST_RATIO = 20  # of the extents of two images of one organ


def read_volume(file: Path, dataset_json: dict) -> sitk.Image:
    """A volume of at least two voxels along each axis, in the pixel type of the file.

    Args:
        dataset_json: names nnU-Net's reader, with which the voxels of formats other than NIfTI are looked at.

    Raises:
        XModalError: for a file that cannot be read in full, holds NaN or infinity, is no volume of one channel, or has
            axes that are not at right angles.
    """
    array, geometry = read_image(file, dataset_json, is_label=False)
    direction = np.asarray(geometry.get("direction", np.eye(3)), float)
    if direction.size == 9:  # before ITK's reader, which forgets shear
        _check_axes(file, direction)
    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise XModalError(f"{file} cannot be read ({reason}): replace it by an intact file.") from error
    sides = image.GetSize()
    shown = "×".join(map(str, sides))
    numbers = image.GetNumberOfComponentsPerPixel()
    if len(sides) != 3 or numbers != 1:
        raise XModalError(
            f"{file} holds {shown} voxels of {numbers} channels, which is no single volume: give one per file."
        )
    if min(sides) < 2:
        raise XModalError(f"{file} is a single slice ({shown} voxels): registration needs volumes.")
    if not np.isfinite(array).all():
        raise XModalError(f"{file} holds NaN or infinite voxels: replace them, for example by zero.")
    _check_axes(file, np.asarray(image.GetDirection()))
    return image


def check_same_unit(fixed: sitk.Image, moving: sitk.Image, fixed_file: Path, moving_file: Path) -> None:
    """
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


def _check_axes(file: Path, direction: np.ndarray) -> None:
    axes = direction.reshape(3, 3)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=_ORTHOGONAL_TO):  # also NaN, of a spacing of 0
        raise XModalError(
            f"the axes of {file}, with direction cosines {axes.round(4).tolist()}, are not three at right angles: "
            "resample it onto a grid whose axes are, no rigid transform would stay one."
        )
