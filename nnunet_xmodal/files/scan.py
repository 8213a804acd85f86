"""One scan: a volume from a file of any format that SimpleITK reads, or from a DICOM folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.images import read_image

_ORTHOGONAL_TO = 1e-4  # as `geometry.grid_chain`


@dataclass(frozen=True)
class Scan:
    """
    Attributes:
        image: three-dimensional, of one number per voxel.
        patient: PatientID of DICOM.
        slices: DICOM file of each slice, along the image's z; empty for a volume in one file.
    """

    image: sitk.Image
    patient: str | None = None
    slices: tuple[Path, ...] = ()


def read_volume_file(file: Path, component: int | None = None) -> Scan:
    """
    Args:
        component: which volume of a 4D file, from 0; None takes files of one volume alone.

    Raises:
        XModalError: for a file that cannot be read in full, holds NaN or infinity, is 2D, of several volumes or of
            several numbers per voxel, or has axes that are not at right angles.
    """
    if not file.is_file():
        raise XModalError(f"{file} does not exist.")
    if file.name.endswith((".nii", ".nii.gz")):  # ITK turns NaN into zero, fills up truncated files, forgets shear
        array, geometry = read_image(file, {}, is_label=False)
        _check_finite(file, array)
        _check_axes(file, geometry["direction"])
    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError as error:
        raise XModalError(f"{file} cannot be read: replace it by an intact file.") from error
    image = _one_volume(file, image, component)
    if not file.name.endswith((".nii", ".nii.gz")):
        _check_finite(file, sitk.GetArrayViewFromImage(image))
        _check_axes(file, np.reshape(image.GetDirection(), (3, 3)))
    if image.GetSize()[2] == 1 and file.suffix.lower() in (".dcm", ".ima"):
        raise XModalError(f"{file} is a single DICOM slice: give the folder of its series.")
    patient = image.GetMetaData("0010|0020").strip() if image.HasMetaDataKey("0010|0020") else None
    for key in image.GetMetaDataKeys():  # a NIfTI file would inherit them
        image.EraseMetaData(key)
    return Scan(image, patient)


def _one_volume(file: Path, image: sitk.Image, component: int | None) -> sitk.Image:
    if image.GetNumberOfComponentsPerPixel() != 1:
        numbers = image.GetNumberOfComponentsPerPixel()
        raise XModalError(f"{file} holds {numbers} numbers per voxel, colours or a vector: give an image of one.")
    sides = image.GetSize()
    if len(sides) == 4:
        if component is None and sides[3] != 1:
            raise XModalError(
                f"{file} is 4D ({'×'.join(map(str, sides))}), {sides[3]} volumes in one file: split it, one volume per "
                "channel."
            )
        if component is not None and component >= sides[3]:
            raise XModalError(f"{file} holds {sides[3]} volumes: there is none with the number {component}.")
        image = sitk.Extract(image, [*sides[:3], 0], [0, 0, 0, component or 0])
    elif len(sides) != 3:
        raise XModalError(f"{file} is {len(sides)}D ({'×'.join(map(str, sides))}): a scan has three dimensions.")
    return image


def _check_finite(file: Path, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise XModalError(f"{file} holds NaN or infinite voxels: replace them, for example by zero.")


def _check_axes(file: Path, direction: np.ndarray) -> None:
    axes = np.asarray(direction, float).reshape(3, 3)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=_ORTHOGONAL_TO):  # also NaN, of a spacing of 0
        raise XModalError(f"the axes of {file} are not three at right angles: resample it onto a grid whose axes are.")
