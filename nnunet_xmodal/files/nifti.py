"""NIfTI and Analyze files, checked by nibabel: ITK turns NaN into zero, fills up cut files and forgets a lost spacing.

Where a file lies is another matter: a header may say it twice, and ITK and nibabel do not always believe the same one.
"""

from pathlib import Path

import nibabel
import numpy as np

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.itk_header import ItkHeader, check_numbers, check_spelling, itk_header, last_line
from nnunet_xmodal.files.placement import affine_of, check_grid, grid_of, largest_distance

ENDINGS = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
"""In small letters; files may have capitals."""

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from nibabel's RAS
_SAME_MM = 1e-3


def is_nifti(file: Path) -> bool:
    """Return whether a name is that of a NIfTI file or of a pair of header and image."""
    return file.name.lower().endswith(ENDINGS)


def nifti_image(file: Path) -> nibabel.spatialimages.SpatialImage:
    """Open a file with nibabel; voxels are not read yet.

    Raises:
        XModalError: for a file that nibabel does not know, as where an ending has small letters and capitals.
    """
    check_spelling(file, ENDINGS)
    try:
        return nibabel.load(file)
    except Exception as error:  # whatever nibabel raises
        raise XModalError(f"{file} cannot be read ({last_line(error)}): replace it by an intact file.") from error


def nifti_voxels(file: Path, image: nibabel.spatialimages.SpatialImage) -> np.ndarray:
    """Return all voxels, `(x, y, z)` or with more or fewer axes, scaled as the header says.

    Raises:
        XModalError: for a file that was cut off, and for colours or complex numbers.
    """
    kind = image.get_data_dtype()
    if kind.names:  # before scaling, which fails for records
        check_numbers(file, len(kind.names))
    check_numbers(file, 1, kind.kind == "c")
    if len(image.shape) == 5:
        check_numbers(file, image.shape[4])
    try:
        return np.asanyarray(image.dataobj)
    except Exception as error:
        reason = str(error).split("\n")[0].strip() or type(error).__name__
        raise XModalError(f"{file} cannot be read ({reason}): replace it by an intact file.") from error


def nibabel_affine(image: nibabel.spatialimages.SpatialImage) -> np.ndarray:
    """Return `(4, 4)`, index → LPS mm, as nibabel understands the header."""
    with np.errstate(invalid="ignore"):  # infinity stays what it is
        return _LPS @ image.affine


def nifti_header(file: Path, image: nibabel.spatialimages.SpatialImage) -> ItkHeader:
    """Return what ITK makes of the header, after a look at what ITK would pass over.

    Raises:
        XModalError: for a header that says NaN, for a spacing that was lost, for axes that are not at right angles, and
            for a file that ITK cannot read.
    """
    affine = nibabel_affine(image)
    spacing, origin, direction = grid_of(affine)
    _check_place(file, image, affine)
    try:
        header = itk_header(file)
    except XModalError:
        check_grid(file, spacing, origin, direction)  # most often that is why
        if isinstance(image, nibabel.Nifti2Image):
            raise XModalError(f"{file} is a NIfTI-2 file, which ITK does not read: save it as NIfTI-1.") from None
        raise
    check_grid(file, header.spacing, header.origin, header.direction)
    if len(header.size) >= 3 and are_apart(itk_affine(header), affine, header.size):
        _check_pixdim(file, image)  # ITK goes by the qform
    return header


def nibabel_grid(file: Path, image: nibabel.spatialimages.SpatialImage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return spacing, origin and direction as nibabel understands the header, for what nnU-Net reads with it.

    Raises:
        XModalError: for a header that says NaN, for a spacing that was lost, and for axes that are not at right angles.
    """
    affine = nibabel_affine(image)
    _check_place(file, image, affine)
    grid = grid_of(affine)
    check_grid(file, *grid)
    return grid


def _check_place(file: Path, image: nibabel.spatialimages.SpatialImage, affine: np.ndarray) -> None:
    if not np.isfinite(affine).all():
        raise XModalError(f"the header of {file} does not say where it lies: it holds NaN or infinity; correct it.")
    if not _by_sform(image):
        _check_pixdim(file, image)


def itk_affine(header: ItkHeader) -> np.ndarray:
    """Return `(4, 4)`, index → LPS mm, of the first three dimensions."""
    return affine_of(header.spacing[:3], header.origin[:3], header.direction[:3, :3])


def has_form(image: nibabel.spatialimages.SpatialImage) -> bool:
    """Return whether a header says where the volume lies: not that of Analyze, nor of NIfTI with both codes 0."""
    is_nifti_header = isinstance(image, nibabel.Nifti1Pair)
    return is_nifti_header and bool(image.header["sform_code"] > 0 or image.header["qform_code"] > 0)


def _by_sform(image: nibabel.spatialimages.SpatialImage) -> bool:
    return isinstance(image, nibabel.Nifti1Pair) and image.header["sform_code"] > 0


def _check_pixdim(file: Path, image: nibabel.spatialimages.SpatialImage) -> None:
    """Refuse a spacing that was lost: both programs take 1 mm for it without a word."""
    with image.file_map["header" if "header" in image.file_map else "image"].get_prepare_fileobj("rb") as opened:
        raw = type(image.header).from_fileobj(opened, check=False)
    spacing = np.asarray(raw["pixdim"][1 : 1 + min(3, len(image.shape))], float)
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        check_grid(file, spacing, np.zeros(len(spacing)), np.eye(len(spacing)))


def are_apart(a: np.ndarray, b: np.ndarray, size: tuple[int, ...]) -> bool:
    """Return whether two affines differ by more than rounding in a volume of `size` x, y, z."""
    smallest = np.linalg.norm(a[:3, :3], axis=0).min()
    return largest_distance(a, b, size) > max(_SAME_MM, 0.1 * smallest)
