"""Multi-frame DICOM: every frame where the file says; and what lies beside the slices of a series."""

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dicom_kinds import is_dicom, is_of_a_vendor, is_without_pixels, storage_class
from nnunet_xmodal.files.scan import read_volume_file
from nnunet_xmodal.preparation.case_inputs import read_scan

MR, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
OBLIQUE = Rotation.from_euler("xyz", [14, -9, 20], degrees=True).as_matrix()
NOT_IMAGES = {
    "structured report": "1.2.840.10008.5.1.4.1.1.88.11",
    "key object": "1.2.840.10008.5.1.4.1.1.88.59",
    "raw data": "1.2.840.10008.5.1.4.1.1.66",
    "registration": "1.2.840.10008.5.1.4.1.1.66.1",
    "presentation state": "1.2.840.10008.5.1.4.1.1.11.1",
    "structures": "1.2.840.10008.5.1.4.1.1.481.3",
    "document": "1.2.840.10008.5.1.4.1.1.104.1",
    "spectroscopy": "1.2.840.10008.5.1.4.1.1.4.2",
    "of a vendor": "1.3.12.2.1107.5.9.1",
}


def dataset_of(storage: str, series: str = "1.2.3.4") -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = storage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta, dataset.SOPClassUID, dataset.SOPInstanceUID = meta, storage, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.PatientID, dataset.Modality = "1.2", series, "P1", "MR"
    return dataset


def with_pixels(dataset: Dataset, voxels: np.ndarray) -> Dataset:
    """`(rows, columns)` or `(frames, rows, columns)`."""
    dataset.Rows, dataset.Columns = voxels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = voxels.astype("<u2").tobytes()
    if voxels.ndim == 3:
        dataset.NumberOfFrames = len(voxels)
    return dataset


def saved(dataset: Dataset, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(file, enforce_file_format=True)
    return file


def group(**values) -> Sequence:
    inner = Dataset()
    for name, value in values.items():
        setattr(inner, name, value)
    return Sequence([inner])


def volume(shape=(6, 5, 4)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, shape)


def place(index: float, spacing: float = 3.0) -> list[float]:
    return (np.array([10.0, -20, 30]) + OBLIQUE[:, 2] * index * spacing).round(6).tolist()


def multi_frame(file: Path, frames: np.ndarray, where, pixels=None, slopes=None, axes=None) -> Path:
    """One file, a position per frame; further values where frames differ."""
    dataset = with_pixels(dataset_of(ENHANCED_MR), frames)
    shared, per_frame = Dataset(), []
    direction = OBLIQUE[:, :2].T.ravel().round(9).tolist()
    if axes is None:
        shared.PlaneOrientationSequence = group(ImageOrientationPatient=direction)
    if pixels is None:
        shared.PixelMeasuresSequence = group(PixelSpacing=[1.5, 2.0], SliceThickness=3)
    for number, position in enumerate(where):
        frame = Dataset()
        if position is not None:
            frame.PlanePositionSequence = group(ImagePositionPatient=position)
        if pixels is not None:
            frame.PixelMeasuresSequence = group(PixelSpacing=pixels[number], SliceThickness=3)
        if axes is not None:
            frame.PlaneOrientationSequence = group(ImageOrientationPatient=axes[number])
        if slopes is not None:
            frame.PixelValueTransformationSequence = group(
                RescaleSlope=slopes[number], RescaleIntercept=-5, RescaleType="US"
            )
        per_frame.append(frame)
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    return saved(dataset, file)


def series(folder: Path, voxels: np.ndarray) -> Path:
    for index, plane in enumerate(voxels):
        dataset = with_pixels(dataset_of(MR), plane)
        dataset.PixelSpacing, dataset.ImagePositionPatient = [1.5, 2.0], place(index)
        dataset.ImageOrientationPatient = OBLIQUE[:, :2].T.ravel().round(9).tolist()
        dataset.InstanceNumber = index + 1
        saved(dataset, folder / f"IM{index:03d}.dcm")
    return folder


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 3, 1, 4, 2, 5]])
def test_frames_lie_where_the_slices_of_a_folder_would(tmp_path, order):
    """Also written from the other end, and in stacks."""
    voxels = volume()
    file = multi_frame(tmp_path / "one.dcm", voxels[order], [place(index) for index in order])
    ours, theirs = read_scan(file), read_scan(series(tmp_path / "folder", voxels))
    assert np.array_equal(sitk.GetArrayFromImage(ours.image), voxels)
    assert np.array_equal(sitk.GetArrayFromImage(theirs.image), voxels)
    for number in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(ours.image, number)(), getattr(theirs.image, number)(), atol=1e-5)
    assert ours.patient == theirs.patient == "P1"


def test_a_folder_with_one_such_file_and_a_name_without_ending(tmp_path):
    file = multi_frame(tmp_path / "adc" / "IM_0001", volume(), [place(index) for index in range(6)])
    assert np.array_equal(sitk.GetArrayFromImage(read_scan(file.parent).image), volume())
    assert np.array_equal(sitk.GetArrayFromImage(read_scan(file).image), volume())


def test_every_frame_has_its_own_slope(tmp_path):
    slopes = np.array([0.5, 1, 2, 0.25, 4, 1])
    where = [place(index) for index in range(6)]
    image = read_scan(multi_frame(tmp_path / "one.dcm", volume(), where, slopes=slopes.tolist())).image
    assert np.allclose(sitk.GetArrayFromImage(image), volume() * slopes[:, None, None] - 5)


WHERE = [place(index) for index in range(6)]
NO_VOLUME = {
    "a slice is missing in .*: between frame 3 and frame 4": {"where": [place(i) for i in (0, 1, 2, 5, 6, 7)]},
    "several images of one place: it is 4D": {"where": [place(i) for i in (0, 0, 1, 1, 2, 2)]},
    "several images of one place": {"where": [place(i) for i in (0, 1, 2, 0, 1, 2)]},
    "lie unevenly": {"where": [place(i) for i in (0, 1, 2, 3, 4.3, 5.5)]},
    "tilted gantry": {"where": [(np.array(place(i)) + OBLIQUE[:, 1] * i).tolist() for i in range(6)]},
    "frame 2 in .* has pixels of 3×2 mm": {"where": WHERE, "pixels": [[1.5, 2], [3, 2], *[[1.5, 2]] * 4]},
    "are not parallel": {"where": WHERE, "axes": [[1, 0, 0, 0, 1, 0], *[[0, 1, 0, 0, 0, 1]] * 5]},
    "does not say where each of its 6 frames lies": {"where": [*WHERE[:5], None]},
}


@pytest.mark.parametrize("sentence", NO_VOLUME)
def test_frames_that_are_no_volume_are_refused(tmp_path, sentence):
    file = multi_frame(tmp_path / "one.dcm", volume(), **NO_VOLUME[sentence])
    with pytest.raises(XModalError, match=sentence) as caught:
        read_scan(file)
    assert str(file) in str(caught.value)


def test_a_file_of_frames_without_any_place_is_refused(tmp_path):
    file = saved(with_pixels(dataset_of("1.2.840.10008.5.1.4.1.1.7.2"), volume()), tmp_path / "capture.dcm")
    with pytest.raises(XModalError, match="does not say where each of its 6 frames lies"):
        read_scan(file)


def test_a_volume_beside_slices_is_refused(tmp_path):
    folder = series(tmp_path / "adc", volume())
    for file in sorted(folder.iterdir())[1:]:
        file.unlink()
    multi_frame(folder / "whole.dcm", volume(), WHERE)
    with pytest.raises(XModalError, match="whole.dcm is a volume by itself"):
        read_scan(folder)


def test_without_highdicom_a_sentence_tells_how_to_get_it(tmp_path, monkeypatch):
    file = multi_frame(tmp_path / "one.dcm", volume(), WHERE)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(XModalError, match=r'pip install "nnunet-xmodal\[dicom\]"'):
        read_scan(file)


def test_slices_in_a_folder_need_no_such_library(tmp_path, monkeypatch):
    folder = series(tmp_path / "adc", volume())
    saved(dataset_of(NOT_IMAGES["structured report"]), folder / "SR001.dcm")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert np.array_equal(sitk.GetArrayFromImage(read_scan(folder).image), volume())


@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_what_is_no_image_is_passed_over(tmp_path, kind):
    folder = series(tmp_path / "adc", volume())
    file = saved(dataset_of(NOT_IMAGES[kind], series="1.2.3.9"), folder / "A000.dcm")
    assert is_dicom(file) and storage_class(file) == NOT_IMAGES[kind]
    assert is_without_pixels(storage_class(file)) or is_of_a_vendor(storage_class(file))
    scan = read_scan(folder)
    assert np.array_equal(sitk.GetArrayFromImage(scan.image), volume())
    assert [slice_.name for slice_ in scan.slices] == [f"IM{index:03d}.dcm" for index in range(6)]


def test_a_report_in_the_place_of_a_scan_is_a_sentence(tmp_path):
    file = saved(dataset_of(NOT_IMAGES["structured report"]), tmp_path / "adc" / "SR.dcm")
    with pytest.raises(XModalError, match="SR.dcm is DICOM without an image"):
        read_volume_file(file)
    with pytest.raises(XModalError, match="holds no DICOM images"):
        read_scan(file.parent)


def test_images_are_not_passed_over():
    kinds = (MR, ENHANCED_MR, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4", f"{MR}.4")
    assert not any(is_without_pixels(kind) or is_of_a_vendor(kind) for kind in kinds)
    assert not is_without_pixels("") and not is_of_a_vendor("")


def test_one_slice_with_other_pixels_is_refused(tmp_path):
    folder = series(tmp_path / "adc", volume())
    dataset = pydicom.dcmread(folder / "IM002.dcm")
    dataset.PixelSpacing = [2, 2]
    dataset.save_as(folder / "IM002.dcm")
    with pytest.raises(XModalError, match=r"IM002.dcm in .*adc has pixels of 2×2 mm, other slices of 1.5×2 mm"):
        read_scan(folder)


def test_coloured_slices_are_refused(tmp_path):
    folder = series(tmp_path / "adc", volume())
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelData = bytes(dataset.Rows * dataset.Columns * 3)
        dataset.save_as(file)
    with pytest.raises(XModalError, match="holds 3 numbers per voxel"):
        read_scan(folder)
