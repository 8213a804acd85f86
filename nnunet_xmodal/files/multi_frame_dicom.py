"""A volume in one DICOM file: every frame where the file says that it lies, which ITK does not look at.

ITK stacks frames in the order of the file and counts on even distances. highdicom knows the positions and the scaling
of each frame; both it and pydicom come with the extra `dicom`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dicom_kinds import SEGMENTATION
from nnunet_xmodal.files.dicom_libraries import load_dicom_libraries
from nnunet_xmodal.files.itk_header import last_line
from nnunet_xmodal.files.slice_order import EVEN_TO, slice_order

_STRAIGHT_TO = 1 - np.cos(np.arctan(EVEN_TO))  # for highdicom, as `slice_order` has it


def read_multi_frame(file: Path) -> sitk.Image:
    """Read a file whose frames are the slices of one volume.

    Returns:
        float32 in the unit of each frame's rescaling, z along the cross product of the directions of rows and columns.

    Raises:
        XModalError: without highdicom, for a file that does not say where each frame lies, and for frames that are no
            single volume (see `slice_order`).
    """
    highdicom, pydicom = load_dicom_libraries(f"{file} is DICOM of several frames")
    try:
        dataset = pydicom.dcmread(file)
    except Exception as error:  # whatever pydicom raises
        raise XModalError(f"{file} cannot be read ({last_line(error)}): replace it by an intact file.") from error
    if dataset.get("SOPClassUID") == SEGMENTATION:
        raise XModalError(f"{file} is a DICOM segmentation and no scan: give it as the label.")
    positions, axes, pixels = _places(file, dataset)
    names = [f"frame {number + 1}" for number in range(len(positions))]
    order = slice_order(file, names, positions, axes, pixels, several="write each volume to a file of its own")
    if "FrameOfReferenceUID" not in dataset:  # highdicom insists on it, and here it does not matter
        dataset.FrameOfReferenceUID = pydicom.uid.generate_uid()
    try:
        volume = highdicom.Image.from_dataset(dataset, copy=False).get_volume(
            dtype=np.float32, apply_real_world_transform=False, rtol=EVEN_TO, perpendicular_tol=_STRAIGHT_TO
        )
    except Exception as error:  # of highdicom, pydicom and decoders
        raise XModalError(f"{file} cannot be read as one volume ({last_line(error)}).") from error
    if volume.array.ndim != 3:
        raise XModalError(f"{file} holds colours: give an image of one number per voxel.")
    row, column = axes[0]
    normal = np.cross(row, column)
    array = volume.array
    if volume.direction[:, 0] @ normal < 0:
        array = array[::-1]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, np.float32))
    extent = float((positions[order[-1]] - positions[order[0]]) @ normal)
    between_rows, between_columns = pixels[0]
    image.SetSpacing([float(between_columns), float(between_rows), extent / (len(order) - 1)])
    image.SetOrigin(positions[order[0]].tolist())
    image.SetDirection(np.stack((row, column, normal), 1).ravel().tolist())
    return image


def frame_positions(file: Path, dataset: Any) -> np.ndarray:
    """Return ImagePositionPatient of every frame, `(N, 3)` in mm.

    Raises:
        XModalError: for a file that does not say where each frame lies.
    """
    return _places(file, dataset)[0]


def _places(file: Path, dataset: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions `(N, 3)`, axes `(N, 2, 3)` and distances between rows and columns `(N, 2)` of all frames."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [None]
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []

    def unknown(name: str) -> XModalError:
        return XModalError(
            f"{file} does not say where each of its {dataset.get('NumberOfFrames', 1)} frames lies ({name}): convert "
            "it by a program that knows its kind, for example to NIfTI."
        )

    def value(frame: Any, group: str, name: str) -> list[float]:
        for item in (frame, shared[0]):
            inner = item and item.get(group)
            if inner and inner[0].get(name) is not None:
                return [float(number) for number in inner[0].get(name)]
        raise unknown(name)

    if len(frames) < 2 or len(frames) != dataset.get("NumberOfFrames"):
        raise unknown("PerFrameFunctionalGroupsSequence")
    positions = np.array([value(frame, "PlanePositionSequence", "ImagePositionPatient") for frame in frames])
    axes = np.array([value(frame, "PlaneOrientationSequence", "ImageOrientationPatient") for frame in frames])
    pixels = np.array([value(frame, "PixelMeasuresSequence", "PixelSpacing") for frame in frames])
    return positions, axes.reshape(-1, 2, 3), pixels
