"""A DICOM series in a folder as one volume; what is not one complete series is said.

Slices are put in order by their positions along the normal of their plane, not by their names or numbers, and lie
where ImagePositionPatient and ImageOrientationPatient say. Values are those of RescaleSlope and RescaleIntercept, which
may differ from slice to slice.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dicom_kinds import is_of_a_vendor, is_without_pixels, refuse_contours, storage_class
from nnunet_xmodal.files.itk_header import check_numbers
from nnunet_xmodal.files.multi_frame_dicom import read_multi_frame
from nnunet_xmodal.files.scan import Scan
from nnunet_xmodal.files.slice_order import slice_order

_SERIES, _PATIENT, _POSITION, _ORIENTATION = "0020|000e", "0010|0020", "0020|0032", "0020|0037"
_PIXELS = "0028|0030"
_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True)
class _Slice:
    file: Path
    series: str
    patient: str
    position: np.ndarray  # (3,) mm
    axes: np.ndarray  # (2, 3), along a row and along a column
    pixels: np.ndarray  # (2,) mm between rows and between columns, NaN where unknown
    depth: int  # 1, or more for a volume in one file


def read_series(folder: Path) -> Scan:
    """Read a folder with one DICOM series.

    Returns:
        float32, z along the cross product of the directions of rows and columns.

    Raises:
        XModalError: for a folder without DICOM images, an unreadable one, several series, patients or volumes, slices
            that are not parallel, of another pixel size, uneven or missing, and a tilted gantry. Reports, key objects
            and raw data are passed over.
    """
    files = [file for file in sorted(folder.iterdir()) if _visible(file)]
    headers = {file: _header(file) for file in files}
    slices = [header for header in headers.values() if header]
    _check_none_is_cut(headers)
    if not slices:
        for file in files:
            refuse_contours(file)
        raise XModalError(f"{folder} holds no DICOM images: give a file, or the folder of a series.")
    _check_one_series(folder, slices)
    if len(slices) == 1:
        return _single(slices[0])
    slices = _in_order(folder, slices)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(header.file) for header in slices])
    reader.SetImageIO("GDCMImageIO")
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise XModalError(
            f"the slices of {folder} cannot be read as one volume: replace damaged files, and take out those of "
            "another size."
        ) from error
    row, column = slices[0].axes
    normal = np.cross(row, column)
    extent = float((slices[-1].position - slices[0].position) @ normal)
    image.SetSpacing([*image.GetSpacing()[:2], extent / (len(slices) - 1)])
    image.SetOrigin(slices[0].position.tolist())
    image.SetDirection(np.stack((row, column, normal), 1).ravel().tolist())
    return Scan(image, slices[0].patient, tuple(header.file for header in slices))


def _check_none_is_cut(headers: Mapping[Path, _Slice | None]) -> None:
    """Refuse what is no DICOM file and has the name of a slice, but for its numbers: it is cut off, or empty."""
    names = {_NUMBERS.sub("#", file.name) for file, header in headers.items() if header}
    for file, header in headers.items():
        if header is None and _NUMBERS.sub("#", file.name) in names and not _is_dicom(file):
            raise XModalError(f"{file} cannot be read as DICOM: replace it by an intact file.")


def _is_dicom(file: Path) -> bool:
    with open(file, "rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def _visible(file: Path) -> bool:
    return file.is_file() and file.name[0] != "."  # macOS puts ._names beside files


def _header(file: Path) -> _Slice | None:
    """Read a header; None for what is not DICOM, or no image."""
    is_dicom = _is_dicom(file)
    if file.name == "DICOMDIR" or (not is_dicom and file.suffix.lower() not in ("", ".dcm", ".ima")):
        return None
    storage = storage_class(file) if is_dicom else ""
    if is_without_pixels(storage):
        return None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if (not is_dicom and file.suffix == "") or is_of_a_vendor(storage):
            return None
        raise XModalError(f"{file} cannot be read as DICOM: replace it by an intact file.") from error

    check_numbers(file, reader.GetNumberOfComponents())

    def tag(name: str) -> str:
        return reader.GetMetaData(name).strip() if reader.HasMetaDataKey(name) else ""

    try:
        position = np.array([float(mm) for mm in tag(_POSITION).split("\\")])
        axes = np.array([float(cosine) for cosine in tag(_ORIENTATION).split("\\")]).reshape(2, 3)
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)  # written with few decimals they are not of length 1
    except ValueError:  # a volume in one file has them elsewhere
        position, direction = np.array(reader.GetOrigin()), np.reshape(reader.GetDirection(), (3, 3))
        axes = direction[:, :2].T
        if reader.GetSize()[2] == 1:
            raise XModalError(
                f"{file} does not say where its slice lies (ImagePositionPatient): take it out."
            ) from None
    try:
        pixels = np.array([float(mm) for mm in tag(_PIXELS).split("\\")]).reshape(2)
    except ValueError:
        pixels = np.full(2, np.nan)
    return _Slice(file, tag(_SERIES), tag(_PATIENT), position, axes, pixels, reader.GetSize()[2])


def _check_one_series(folder: Path, slices: list[_Slice]) -> None:
    patients = sorted({header.patient for header in slices})
    if len(patients) > 1:
        raise XModalError(f"{folder} holds images of {len(patients)} patients, {_shown(patients)}: separate them.")
    counts: dict[str, int] = {}
    for header in slices:
        counts[header.series] = counts.get(header.series, 0) + 1
    # some anonymisers give every file a series of its own; what lies evenly is one volume all the same
    if len(counts) > 1 and max(counts.values()) > 1:
        numbers = " and ".join(str(count) for count in counts.values())
        raise XModalError(f"{folder} holds {len(counts)} series (of {numbers} images): give each a folder of its own.")


def _in_order(folder: Path, slices: list[_Slice]) -> list[_Slice]:
    several = [header for header in slices if header.depth > 1]
    if several:
        raise XModalError(
            f"{folder} holds {len(slices)} DICOM images, of which {several[0].file.name} is a volume by itself: give "
            "each volume a folder of its own."
        )
    order = slice_order(
        folder,
        [header.file.name for header in slices],
        np.array([header.position for header in slices]),
        np.array([header.axes for header in slices]),
        np.array([header.pixels for header in slices]),
    )
    return [slices[index] for index in order]


def _single(header: _Slice) -> Scan:
    if header.depth == 1:
        raise XModalError(f"{header.file.parent} holds one DICOM slice: the others of its series are missing.")
    return Scan(read_multi_frame(header.file), header.patient)


def _shown(patients: list[str]) -> str:
    return ", ".join(patient or "one without a name" for patient in patients[:3])
