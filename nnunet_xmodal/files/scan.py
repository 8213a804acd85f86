"""One scan: a volume from a file of any format that SimpleITK reads, or from a DICOM folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dicom_kinds import is_dicom, is_without_pixels, refuse_contours, storage_class
from nnunet_xmodal.files.itk_header import check_header, check_numbers, itk_header, last_line
from nnunet_xmodal.files.kept_locale import kept_locale
from nnunet_xmodal.files.multi_frame_dicom import read_multi_frame
from nnunet_xmodal.files.nifti import is_nifti, nibabel_grid, nifti_header, nifti_image, nifti_voxels


@dataclass(frozen=True)
class Scan:
    """A volume with what its files say about it.

    Attributes:
        image: three-dimensional, of one number per voxel.
        patient: PatientID of DICOM.
        slices: DICOM file of each slice, along the image's z; empty for a volume in one file.
    """

    image: sitk.Image
    patient: str | None = None
    slices: tuple[Path, ...] = ()


def read_volume_file(file: Path, component: int | None = None, by_nibabel: bool = False) -> Scan:
    """Read one volume of a file.

    Args:
        component: which volume of a 4D file, from 0; None takes files of one volume alone.
        by_nibabel: puts a NIfTI file where nibabel does, for grids of datasets that nnU-Net reads with it.

    Raises:
        XModalError: for a file that cannot be read in full, holds NaN or infinity, is 2D, of several volumes or of
            several numbers per voxel, or has axes that are not at right angles.
    """
    if not file.is_file():
        raise XModalError(f"{file} does not exist.")
    if is_dicom(file) or file.suffix.lower() in (".dcm", ".ima"):
        return _read_dicom(file)
    image = _one_volume(file, read_whole(file), component)
    for key in image.GetMetaDataKeys():  # a NIfTI file would inherit them
        image.EraseMetaData(key)
    if by_nibabel and is_nifti(file):
        spacing, origin, direction = nibabel_grid(file, nifti_image(file))
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(origin.tolist())
        image.SetDirection(direction.ravel().tolist())
    return Scan(image)


def read_whole(file: Path) -> sitk.Image:
    """Read an image of any number of dimensions, where ITK puts it.

    Raises:
        XModalError: for a file that cannot be read in full, holds NaN or infinity or several numbers per voxel, or has
            axes that are not at right angles.
    """
    if is_nifti(file):
        opened = nifti_image(file)
        check_finite(file, nifti_voxels(file, opened))
        nifti_header(file, opened)
    else:
        check_header(file, itk_header(file))
    try:
        with kept_locale():
            image = sitk.ReadImage(str(file))
    except RuntimeError as error:
        raise XModalError(f"{file} cannot be read ({last_line(error)}): replace it by an intact file.") from error
    if not is_nifti(file):
        check_finite(file, sitk.GetArrayViewFromImage(image))
    return image


def _read_dicom(file: Path) -> Scan:
    refuse_contours(file)
    if is_dicom(file) and is_without_pixels(storage_class(file)):
        raise XModalError(f"{file} is DICOM without an image, such as a report: give the folder of a series.")
    header = itk_header(file)
    check_numbers(file, header.numbers, header.is_complex)
    if len(header.size) < 3 or header.size[2] == 1:
        raise XModalError(f"{file} is a single DICOM slice: give the folder of its series.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    patient = reader.GetMetaData("0010|0020").strip() if reader.HasMetaDataKey("0010|0020") else None
    return Scan(read_multi_frame(file), patient)


def _one_volume(file: Path, image: sitk.Image, component: int | None) -> sitk.Image:
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


def check_finite(file: Path, array: np.ndarray) -> None:
    """Check that all voxels are finite numbers.

    Raises:
        XModalError: for a voxel that is NaN or infinite, also in single precision.
    """
    if array.dtype.kind != "f":
        return
    largest = np.finfo(np.float32).max
    if not (np.isfinite(array).all() and np.abs(array).max(initial=0) <= largest):
        raise XModalError(f"{file} holds NaN or infinite voxels: replace them, for example by zero.")
