"""DICOM segmentations: label maps written beside the series that they were drawn on, and read back.

Both by highdicom, of the extra `dicom`. A segment is a label or a region, so that segments may overlap.
"""

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal import __version__
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.dicom_libraries import load_dicom_libraries
from nnunet_xmodal.files.itk_header import last_line
from nnunet_xmodal.files.multi_frame_dicom import frame_positions
from nnunet_xmodal.files.segment_codes import Segment

_OFTEN_LEFT_OUT = (  # by anonymisers; DICOM wants them, perhaps empty
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime",
)  # fmt: skip
_ALGORITHM = "nnunet-xmodal"


def write_dicom_seg(
    labels: sitk.Image, series: Sequence[Path], segments: Sequence[Segment], file: Path, model: str
) -> None:
    """Write a label map as DICOM SEG that refers to the images it lies on.

    Args:
        labels: on the grid of the series as `read_series` or `read_multi_frame` return it.
        series: its files: a slice each, or one with all frames.
        segments: what labels are.
        model: for the series' description, e.g. the trainer's name.

    Raises:
        XModalError: without highdicom, for a series without a frame of reference, and for a file that cannot be
            written.
    """
    highdicom, pydicom = load_dicom_libraries(f"{file} is a DICOM segmentation")
    sources = [pydicom.dcmread(path, stop_before_pixels=True) for path in series]
    for source in sources:
        if not source.get("FrameOfReferenceUID"):
            raise XModalError(
                f"{series[0]} has no FrameOfReferenceUID, which a DICOM segmentation refers to: leave out --dicom_seg."
            )
        for name in _OFTEN_LEFT_OUT:
            if name not in source:
                setattr(source, name, "")
        if "SliceThickness" not in source and len(sources) > 1:
            source.SliceThickness = labels.GetSpacing()[2]
    voxels = sitk.GetArrayViewFromImage(labels)[_slices(labels, sources, series[0])]
    stacked = np.stack([np.isin(voxels, segment.values) for segment in segments], -1).astype(np.uint8)
    identification = highdicom.AlgorithmIdentificationSequence(
        name=_ALGORITHM, version=__version__, family=pydicom.sr.codedict.codes.DCM.ArtificialIntelligence
    )
    with warnings.catch_warnings():  # about names of patients, which are as the series has them
        warnings.simplefilter("ignore", UserWarning)
        made = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=stacked,
            segmentation_type="BINARY",
            segment_descriptions=[
                _description(highdicom, segment, number, identification) for number, segment in enumerate(segments, 1)
            ],
            series_instance_uid=highdicom.UID(),
            series_number=int(sources[0].get("SeriesNumber") or 0) * 100 + 1,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="the nnunet-xmodal contributors",
            manufacturer_model_name=_ALGORITHM,
            software_versions=__version__,
            device_serial_number="1",
            content_description="Segmentation by nnU-Net",
            content_label="SEGMENTATION",
            series_description=f"Segmentation, {model}"[:64],
        )
    write_atomically(file, lambda name: made.save_as(name), lambda name: _reads_back(pydicom, name, made))


def read_dicom_seg(
    file: Path, labels: Mapping[str, int | Sequence[int]], numbers_mapped: Collection[int] = ()
) -> sitk.Image:
    """Read a DICOM segmentation as a label map where its frames lie.

    Args:
        labels: as in dataset.json. Where every segment is called as one of them (in any case of letters), segments get
            the labels' values, larger regions first; else voxels are the numbers of their segments.
        numbers_mapped: numbers of segments of which the caller knows what they become.

    Raises:
        XModalError: without highdicom, for a file that cannot be read or is no volume, for segments that overlap
            and are no regions, and where some segments are called as labels and others are neither that nor mapped.
    """
    highdicom, pydicom = load_dicom_libraries(f"{file} is a DICOM segmentation")
    try:
        opened = highdicom.seg.segread(file)
        volume = opened.get_volume(combine_segments=False, rescale_fractional=True)
    except Exception as error:  # of highdicom, pydicom and decoders
        raise XModalError(f"{file} cannot be read as one volume of segments ({last_line(error)}).") from error
    names = {number: opened.get_segment_description(number).segment_label for number in opened.segment_numbers}
    stacked = volume.array if volume.array.ndim == 4 else volume.array[..., None]
    masks = {number: stacked[..., index] >= 0.5 for index, number in enumerate(opened.segment_numbers)}
    _check_names(file, names, labels, numbers_mapped)
    values, order = _values(names, labels)
    result = np.zeros(stacked.shape[:3], np.uint16)
    for number in order:
        overlap = masks[number] & (result != 0)
        if overlap.any() and not values[number][1]:
            other = next(key for key, (value, _) in values.items() if value == result[overlap].flat[0])
            raise XModalError(
                f"{file}: the segments {names[other]} and {names[number]} overlap, and a voxel has one label: name "
                "them as regions in --labels, larger ones first, for example whole=1,2 core=2."
            )
        result[masks[number]] = values[number][0]
    return _image(result, volume.affine)


def _check_names(
    file: Path, names: Mapping[int, str], labels: Mapping[str, int | Sequence[int]], mapped: Collection[int]
) -> None:
    """Refuse numbers that would be taken for labels' values where some of the names are labels'."""
    known = {name.strip().lower(): value for name, value in labels.items()}
    called = [number for number, name in names.items() if name.strip().lower() in known]
    others = [number for number in names if number not in called]
    if called and others and not set(names) <= set(mapped):
        shown = ", ".join(f"{number} ({name})" for number, name in sorted(names.items()))
        values = {number: known.get(name.strip().lower(), 0) for number, name in sorted(names.items())}
        pairs = " ".join(f"{key}:{value if isinstance(value, int) else value[0]}" for key, value in values.items())
        raise XModalError(
            f"{file} has the segments {shown}, and {names[others[0]]} is none of the labels: name it in --labels, or "
            f"say of each number what it becomes, for example --map {pairs}."
        )


def _values(
    names: Mapping[int, str], labels: Mapping[str, int | Sequence[int]]
) -> tuple[dict[int, tuple[int, bool]], list[int]]:
    """Return segment → value and whether it may lie over others, and the order in which segments are drawn."""
    known = {name.strip().lower(): position for position, name in enumerate(labels)}
    called = {number: known.get(name.strip().lower()) for number, name in names.items()}
    if any(position is None for position in called.values()):
        return {number: (number, False) for number in names}, sorted(names)
    entries = list(labels.values())
    regions = [tuple(value) if isinstance(value, list | tuple) else (value,) for value in entries]
    has_regions = any(len(region) > 1 for region in regions)
    values = {}
    for number, position in called.items():
        assert position is not None
        later = {value for region in regions[position + 1 :] for value in region}
        own = [value for value in regions[position] if value not in later] or list(regions[position])
        values[number] = (int(own[0]), has_regions)
    return values, sorted(names, key=lambda number: called[number] or 0)


def _slices(labels: sitk.Image, sources: Sequence[Any], file: Path) -> np.ndarray:
    """Return for every source frame the index of its slice along the label map's z."""
    if len(sources) > 1:
        positions = np.array([[float(mm) for mm in source.ImagePositionPatient] for source in sources])
    else:
        positions = frame_positions(file, sources[0])
    found = [labels.TransformPhysicalPointToContinuousIndex(position.tolist()) for position in positions]
    index = np.array(found)
    nearest = index[:, 2].round().astype(int)
    if (
        np.abs(index[:, :2]).max() > 0.1
        or np.abs(index[:, 2] - nearest).max() > 0.1
        or len(nearest) != labels.GetSize()[2]
    ):
        raise XModalError(f"the label map does not lie on the slices of {file}: it is of another series.")
    return nearest


def patient_of(file: Path) -> str:
    """Return the PatientID of a DICOM segmentation, "" without one."""
    _, pydicom = load_dicom_libraries(f"{file} is a DICOM segmentation")
    header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["PatientID"])
    return str(header.get("PatientID") or "").strip()


def _description(highdicom: Any, segment: Segment, number: int, identification: Any) -> Any:
    coded = highdicom.sr.CodedConcept
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:64],
        segmented_property_category=coded(*segment.category),
        segmented_property_type=coded(*segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=identification,
        tracking_uid=highdicom.UID(),
        tracking_id=segment.name[:64],
        anatomic_regions=None if segment.region is None else [coded(*segment.region)],
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.colour),
    )


def _image(array: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """Return an image of `(slices, rows, columns)` by the affine of these indices, in LPS mm."""
    image = sitk.GetImageFromArray(array)
    columns = affine[:3, [2, 1, 0]]  # along x, y, z of the image
    spacing = np.linalg.norm(columns, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def _reads_back(pydicom: Any, name: str, made: Any) -> bool:
    return pydicom.dcmread(name).PixelData == made.PixelData
