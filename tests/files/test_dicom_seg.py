"""DICOM segmentations: written on a series, read back by others, and read as labels; contours are told."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation
from segment_voxels import check_masks

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dicom_kinds import CONTOURS, is_segmentation
from nnunet_xmodal.files.dicom_seg import read_dicom_seg, write_dicom_seg
from nnunet_xmodal.files.scan import read_volume_file
from nnunet_xmodal.files.segment_codes import ABNORMAL, STRUCTURE, TISSUE, segments_of
from nnunet_xmodal.preparation.series import read_series

highdicom = pytest.importorskip("highdicom", reason='highdicom is not installed: pip install "nnunet-xmodal[dicom]"')

SIZE, SPACING, ORIGIN = (8, 9, 6), (0.8, 1.1, 3.0), (-20.0, 15.5, 40.25)
TILTED = Rotation.from_euler("xyz", [14, -9, 20], degrees=True).as_matrix()
# 8 columns: ITK reads beyond the last bit where the bits of all frames fill no whole byte
DATASET = {"labels": {"background": 0, "prostate": 1, "lesion": 2}}


def slice_of(folder, index, frame="1.2.9", anonymous=False, thickness=SPACING[2], axes=TILTED, moved_mm=None):
    """A CT-like slice file as scanners write it, named against the order of the slices."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = generate_uid(), ExplicitVRLittleEndian
    made = Dataset()
    made.file_meta = meta
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality, made.SeriesNumber = "1.2.7", "1.2.8", "MR", 3
    if frame:
        made.FrameOfReferenceUID = frame
    if not anonymous:
        made.PatientID, made.PatientName, made.PatientBirthDate, made.PatientSex = "P1", "Anna", "", "F"
        made.SliceThickness = thickness
        made.AccessionNumber, made.StudyID, made.StudyDate, made.StudyTime = "", "1", "20200101", "120000"
    along = index * SPACING[2] + (moved_mm or {}).get(index, 0)
    made.ImagePositionPatient = (np.array(ORIGIN) + axes[:, 2] * along).round(6).tolist()
    made.ImageOrientationPatient = axes[:, :2].T.ravel().round(6).tolist()
    made.PixelSpacing = [SPACING[1], SPACING[0]]
    made.Rows, made.Columns, made.InstanceNumber = SIZE[1], SIZE[0], index + 1
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.PixelData = np.full((SIZE[1], SIZE[0]), index, "<u2").tobytes()
    folder.mkdir(exist_ok=True)
    made.save_as(folder / f"{9 - index}.dcm", enforce_file_format=True)


def enhanced(file):
    """The same slices as the frames of one file."""
    folder = file.with_suffix("")
    for index in range(SIZE[2]):
        slice_of(folder, index)
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir(), reverse=True)]
    for dataset in slices:
        dataset.ImageType, dataset.FrameOfReferenceUID = ["ORIGINAL", "PRIMARY", "M", "ND"], "1.2.9"
        dataset.PatientName = "Anna^"  # highdicom warns of names of one part
        dataset.PatientPosition, dataset.Manufacturer, dataset.PositionReferenceIndicator = "HFS", "none", ""
        dataset.AcquisitionNumber, dataset.ReferringPhysicianName, dataset.VolumetricProperties = 1, "", "VOLUME"
    made = highdicom.legacy.LegacyConvertedEnhancedMRImage(slices, generate_uid(), 4, generate_uid(), 1)
    made.save_as(file)
    return file


@pytest.fixture
def series(tmp_path):
    for index in range(SIZE[2]):
        slice_of(tmp_path / "series", index)
    return read_series(tmp_path / "series")


def label_map(image, empty_ends=1):
    """Blocks of both labels, none on the first and last slices."""
    array = np.zeros(SIZE[::-1], np.uint8)
    array[empty_ends : SIZE[2] - empty_ends, 2:7, 1:5] = 1
    array[2:4, 3:5, 2:3] = 2
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(image)
    return made


def voxels(image):
    return sitk.GetArrayFromImage(image)


def on(image, grid):
    return voxels(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor))


def test_written_and_read_by_all(series, tmp_path):
    labels, file = label_map(series.image), tmp_path / "seg.dcm"
    write_dicom_seg(labels, series.slices, segments_of(DATASET), file, "nnUNetTrainer")
    assert is_segmentation(file)
    plain = pydicom.dcmread(file)
    assert [segment.SegmentLabel for segment in plain.SegmentSequence] == ["prostate", "lesion"]
    assert plain.PatientName == "Anna" and plain.FrameOfReferenceUID == "1.2.9" and plain.SeriesInstanceUID != "1.2.8"
    referenced = plain.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == "1.2.8"
    known = {pydicom.dcmread(path).SOPInstanceUID for path in series.slices}
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} <= known
    check_masks(file, labels, {"prostate": (1,), "lesion": (2,)})
    again = read_dicom_seg(file, DATASET["labels"])
    np.testing.assert_array_equal(on(again, labels), voxels(labels))
    np.testing.assert_allclose(again.GetSpacing(), SPACING, atol=1e-5)


def test_regions_overlap(series, tmp_path):
    dataset_json = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
    labels, file = label_map(series.image), tmp_path / "seg.dcm"
    write_dicom_seg(labels, series.slices, segments_of(dataset_json), file, "nnUNetTrainer")
    check_masks(file, labels, {"whole": (1, 2), "core": (2,)})
    np.testing.assert_array_equal(on(read_dicom_seg(file, dataset_json["labels"]), labels), voxels(labels))
    with pytest.raises(XModalError, match="the segments whole and core overlap"):
        read_dicom_seg(file, {"background": 0, "whole": 1, "core": 2})
    with pytest.raises(XModalError, match="overlap"):
        read_dicom_seg(file, {"background": 0, "other": 1})


def test_by_number_where_names_are_others(series, tmp_path):
    labels, file = label_map(series.image), tmp_path / "seg.dcm"
    write_dicom_seg(labels, series.slices, segments_of(DATASET), file, "nnUNetTrainer")
    by_name = read_dicom_seg(file, {"background": 0, "Lesion": 1, "PROSTATE": 2})
    np.testing.assert_array_equal(on(by_name, labels), np.array([0, 2, 1])[voxels(labels)])
    np.testing.assert_array_equal(on(read_dicom_seg(file, {"background": 0, "a": 1}), labels), voxels(labels))


def test_one_slice(series, tmp_path):
    labels = label_map(series.image)
    array = voxels(labels)
    array[:2] = array[3:] = 0
    one = sitk.GetImageFromArray(array)
    one.CopyInformation(labels)
    write_dicom_seg(one, series.slices, segments_of(DATASET), tmp_path / "seg.dcm", "nnUNetTrainer")
    np.testing.assert_array_equal(on(read_dicom_seg(tmp_path / "seg.dcm", DATASET["labels"]), labels), array)


def test_what_anonymisers_leave_out_is_not_needed(tmp_path):
    for index in range(SIZE[2]):
        slice_of(tmp_path / "series", index, anonymous=True)
    scan = read_series(tmp_path / "series")
    labels = label_map(scan.image)
    write_dicom_seg(labels, scan.slices, segments_of(DATASET), tmp_path / "seg.dcm", "nnUNetTrainer")
    again = read_dicom_seg(tmp_path / "seg.dcm", DATASET["labels"])
    np.testing.assert_array_equal(on(again, labels), voxels(labels))
    assert again.GetSpacing()[2] == pytest.approx(SPACING[2], abs=1e-5)


CODED = {"type": ["52988006", "SCT", "Lesion"], "category": ["49755003", "SCT", "Morphologically Abnormal Structure"]}
CODED |= {"region": ["41216001", "SCT", "Prostate"], "colour": [213, 94, 0]}
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
KINDS = {  # what differs from a plain series and dataset.json
    "plain": {},
    "anonymous": {"anonymous": True},
    "custom codes": {"dataset_json": {**DATASET, "xmodal": {"codes": {"lesion": CODED}}}},
    "names that have no code": {"dataset_json": {"labels": {"background": 0, "stuff": 1, "left kidney": 2}}},
    "overlapping regions": {"dataset_json": REGIONS},
    "gaps between slices": {"thickness": 1.5},
    "overlapping slices": {"thickness": 4.0},
    "not quite even slices": {"moved_mm": {2: 0.15, 4: -0.2}},
    "sagittal": {"axes": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])},
    "left-right and up-down": {"axes": np.diag([-1.0, -1.0, 1.0])},
    "frames of one file": {"frames": True},
    "frames of one file, of a region": {"frames": True, "dataset_json": REGIONS},
}


@pytest.mark.dicom3tools
@pytest.mark.parametrize("kind", KINDS)
def test_valid_by_dicom3tools(tmp_path, kind):
    """Also of series as they are met; voxels are where they were."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    how = dict(KINDS[kind])
    dataset_json = how.pop("dataset_json", DATASET)
    if how.pop("frames", False):
        files = [enhanced(tmp_path / "enhanced.dcm")]
        image = read_volume_file(files[0]).image
    else:
        for index in range(SIZE[2]):
            slice_of(tmp_path / "series", index, **how)
        scan = read_series(tmp_path / "series")
        files, image = scan.slices, scan.image
    labels, file, segments = label_map(image), tmp_path / "seg.dcm", segments_of(dataset_json)
    write_dicom_seg(labels, files, segments, file, "nnUNetTrainer")
    said = subprocess.run([program, str(file)], capture_output=True, text=True, timeout=60)
    assert "Error" not in said.stdout + said.stderr, said.stdout + said.stderr
    assert "Segmentation" in said.stdout + said.stderr
    check_masks(file, labels, {segment.name: segment.values for segment in segments})


def test_another_series_or_none(series, tmp_path):
    labels = label_map(series.image)
    moved = sitk.Image(labels)
    moved.SetOrigin([20.0, 0, 0])
    with pytest.raises(XModalError, match="does not lie on the slices"):
        write_dicom_seg(moved, series.slices, segments_of(DATASET), tmp_path / "seg.dcm", "t")
    slice_of(tmp_path / "series", 0, frame="")
    with pytest.raises(XModalError, match="no FrameOfReferenceUID"):
        write_dicom_seg(labels, series.slices, segments_of(DATASET), tmp_path / "seg.dcm", "t")
    assert not (tmp_path / "seg.dcm").exists()


def test_contours(tmp_path):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CONTOURS, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = Dataset()
    made.file_meta, made.SOPClassUID, made.SOPInstanceUID = meta, CONTOURS, meta.MediaStorageSOPInstanceUID
    (tmp_path / "rt").mkdir()
    made.save_as(tmp_path / "rt" / "rt.dcm", enforce_file_format=True)
    for read, place in ((read_volume_file, tmp_path / "rt" / "rt.dcm"), (read_series, tmp_path / "rt")):
        with pytest.raises(XModalError, match=r"is an RTSTRUCT, contours .* dcmrtstruct2nii"):
            read(place)


def test_codes():
    lesion = {"type": ["86049000", "SCT", "Malignant neoplasm, primary"], "region": ["41216001", "SCT", "Prostate"]}
    said = {**DATASET, "xmodal": {"codes": {"lesion": {**lesion, "colour": [1, 2, 3]}}}}
    prostate, coded = segments_of(said)
    assert prostate.category == STRUCTURE and prostate.type[2] == "Prostate" and prostate.region is None
    assert (coded.type, coded.region, coded.colour) == (tuple(lesion["type"]), tuple(lesion["region"]), (1, 2, 3))
    names = {"Edema": ABNORMAL, "brain tumour": ABNORMAL, "left kidney": STRUCTURE, "stuff": TISSUE}
    for name, category in names.items():
        (segment,) = segments_of({"labels": {"background": 0, name: 1}})
        assert segment.category == category, name
    for wrong, said in (
        ({"gland": {}}, "'gland', and wants a label"),
        ([], None),
        ({"lesion": {"type": "Lesion"}}, "a code of lesion"),
        ({"lesion": {"color": [1, 2, 3]}}, "has 'color'"),
        ({"lesion": {"colour": [1, 2, 300]}}, "0 to 255"),
    ):
        if said:
            with pytest.raises(XModalError, match=said):
                segments_of({**DATASET, "xmodal": {"codes": wrong}})
