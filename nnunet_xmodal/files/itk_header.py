"""Headers as ITK reads them before the voxels, and checks that they describe an image of one number per voxel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.kept_locale import kept_locale
from nnunet_xmodal.files.placement import check_grid

_KNOWN_IN_SMALL_LETTERS = (".mha", ".mhd", ".gipl")  # by ITK
_COMPLEX = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)


@dataclass(frozen=True)
class ItkHeader:
    """The header of a file.

    Attributes:
        size, spacing, origin: along x, y, z, with as many numbers as the file has dimensions; mm.
        direction: cosines of the axes as columns, `(D, D)`.
        numbers: per voxel.
        is_complex: whether they are a real and an imaginary part.
        pixel_type: of SimpleITK.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: np.ndarray
    numbers: int
    is_complex: bool
    pixel_type: int


def itk_header(file: Path) -> ItkHeader:
    """Read the header alone.

    Raises:
        XModalError: for a file of a format that ITK does not know, or a damaged header.
    """
    check_spelling(file, _KNOWN_IN_SMALL_LETTERS, capitals=False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        with kept_locale():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise XModalError(f"{file} cannot be read ({last_line(error)}): replace it by an intact file.") from error
    dimensions = reader.GetDimension()
    return ItkHeader(
        reader.GetSize(),
        reader.GetSpacing(),
        reader.GetOrigin(),
        np.reshape(reader.GetDirection(), (dimensions, dimensions)),
        reader.GetNumberOfComponents(),
        reader.GetPixelID() in _COMPLEX,
        reader.GetPixelID(),
    )


def check_spelling(file: Path, endings: Sequence[str], capitals: bool = True) -> None:
    """Refuse an ending that no library knows as it is spelt.

    Args:
        endings: in small letters.
        capitals: whether one that has nothing but capitals is known, too.

    Raises:
        XModalError: for other spellings, and says how to write it.
    """
    known = max((one for one in endings if file.name.lower().endswith(one)), key=len, default="")
    spelt = file.name[len(file.name) - len(known) :]
    if spelt != known and not (capitals and spelt == known.upper()):
        raise XModalError(f"{file} ends in {spelt}, which is not read as {known}: rename it to end in {known}.")


def check_header(file: Path, header: ItkHeader) -> None:
    """Refuse what holds several numbers per voxel, lies nowhere, or is shorter than it says.

    Raises:
        XModalError: see `check_numbers` and `placement.check_grid`; also for a file that was cut off, where ITK would
            fill it up.
    """
    check_numbers(file, header.numbers, header.is_complex)
    check_grid(file, header.spacing, header.origin, header.direction)
    if file.suffix.lower() in (".gipl", ".vtk"):  # of these ITK does not notice
        bytes_each = sitk.Image([1] * 2, header.pixel_type).GetSizeOfPixelComponent()
        if file.stat().st_size - _before_voxels(file) < np.prod(header.size, dtype=np.int64) * bytes_each:
            raise XModalError(f"{file} cannot be read (it was cut off): replace it by an intact file.")


def _before_voxels(file: Path) -> int:
    """Bytes of the header; 0 where it is of an unusual kind."""
    if file.suffix.lower() == ".gipl":
        return 256
    with open(file, "rb") as opened:
        head = opened.read(1000)
    table = head.find(b"LOOKUP_TABLE")
    return head.find(b"\n", table) + 1 if table >= 0 else 0


def check_numbers(file: Path, numbers: int, is_complex: bool = False) -> None:
    """Refuse colours, vectors and complex numbers.

    Raises:
        XModalError: for more than one number per voxel.
    """
    if is_complex:
        raise XModalError(
            f"{file} holds complex numbers, of which the imaginary part would be dropped: write magnitude or phase."
        )
    if numbers != 1:
        raise XModalError(f"{file} holds {numbers} numbers per voxel, colours or a vector: give an image of one.")


def last_line(error: Exception) -> str:
    """Return the last line of what an error says, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
