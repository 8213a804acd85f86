"""A DICOM series in a folder as one volume; what is not one complete series is said.

Slices are put in order by their positions along the normal of their plane, not by their names or numbers, and lie
where ImagePositionPatient and ImageOrientationPatient say. Values are those of RescaleSlope and RescaleIntercept, which
may differ from slice to slice.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.scan import Scan, read_volume_file

_SERIES, _PATIENT, _POSITION, _ORIENTATION = "0020|000e", "0010|0020", "0020|0032", "0020|0037"
_PARALLEL_TO = 1e-3  # of direction cosines
_EVEN_TO = 0.1  # of the distance between slices
_MISSING_FROM = 1.5


@dataclass(frozen=True)
class _Slice:
    file: Path
    series: str
    patient: str
    position: np.ndarray  # (3,) mm
    axes: np.ndarray  # (2, 3), along a row and along a column
    depth: int  # 1, or more for a volume in one file


def read_series(folder: Path) -> Scan:
    """
    Returns:
        float32, z along the cross product of the directions of rows and columns.

    Raises:
        XModalError: for a folder without DICOM images, an unreadable one, several series, patients or volumes, slices
            that are not parallel, uneven or missing, and a tilted gantry.
    """
    slices = [header for file in sorted(folder.iterdir()) if _visible(file) and (header := _header(file))]
    if not slices:
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


def _visible(file: Path) -> bool:
    return file.is_file() and file.name[0] != "."  # macOS puts ._names beside files


def _header(file: Path) -> _Slice | None:
    """None for what is not DICOM."""
    with open(file, "rb") as opened:
        is_dicom = opened.read(132)[128:] == b"DICM"
    if file.name == "DICOMDIR" or (not is_dicom and file.suffix.lower() not in ("", ".dcm", ".ima")):
        return None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if not is_dicom and file.suffix == "":
            return None
        raise XModalError(f"{file} cannot be read as DICOM: replace it by an intact file.") from error

    def tag(name: str) -> str:
        return reader.GetMetaData(name).strip() if reader.HasMetaDataKey(name) else ""

    try:
        position = np.array([float(mm) for mm in tag(_POSITION).split("\\")])
        axes = np.array([float(cosine) for cosine in tag(_ORIENTATION).split("\\")]).reshape(2, 3)
    except ValueError:  # a volume in one file has them elsewhere
        position, direction = np.array(reader.GetOrigin()), np.reshape(reader.GetDirection(), (3, 3))
        axes = direction[:, :2].T
        if reader.GetSize()[2] == 1:
            raise XModalError(
                f"{file} does not say where its slice lies (ImagePositionPatient): take it out."
            ) from None
    return _Slice(file, tag(_SERIES), tag(_PATIENT), position, axes, reader.GetSize()[2])


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
    axes = slices[0].axes
    if any(np.abs(header.axes - axes).max() > _PARALLEL_TO for header in slices):
        raise XModalError(f"the slices in {folder} are not parallel, as those of a localiser: give another series.")
    normal = np.cross(*axes)
    slices = sorted(slices, key=lambda header: float(header.position @ normal))
    steps = np.diff([header.position for header in slices], axis=0)
    along = steps @ normal
    usual = float(np.median(along))
    if along.min() < 0.01:
        raise XModalError(
            f"{folder} holds several images of one place: it is 4D (b-values, echoes or times in one series), so give "
            "each volume a folder of its own."
        )
    worst = int(np.abs(along - usual).argmax())
    if along.max() > _MISSING_FROM * usual:
        worst = int(along.argmax())
        raise XModalError(
            f"a slice is missing in {folder}: between {slices[worst].file.name} and {slices[worst + 1].file.name} are "
            f"{along[worst]:.3g} mm, elsewhere {usual:.3g} mm."
        )
    if abs(along[worst] - usual) > _EVEN_TO * usual:
        raise XModalError(
            f"the slices in {folder} lie unevenly, {along.min():.3g} to {along.max():.3g} mm apart: resample them."
        )
    sideways = np.linalg.norm(steps - along[:, None] * normal, axis=1)
    if sideways.max() > _EVEN_TO * usual:
        raise XModalError(
            f"the slices in {folder} are shifted against each other by {sideways.max():.3g} mm, as with a tilted "
            "gantry: resample the series onto axes at right angles."
        )
    return slices


def _single(header: _Slice) -> Scan:
    if header.depth == 1:
        raise XModalError(f"{header.file.parent} holds one DICOM slice: the others of its series are missing.")
    return Scan(sitk.Cast(read_volume_file(header.file).image, sitk.sitkFloat32), header.patient)


def _shown(patients: list[str]) -> str:
    return ", ".join(patient or "one without a name" for patient in patients[:3])
