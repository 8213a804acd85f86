"""DICOM segmentations as labels of nnUNetXModal_prepare, by name and by number, on any grid; contours are told."""

import sys

import numpy as np
import pytest
import SimpleITK as sitk
from preparation_runs import NAME, image, rows_of, run

from nnunet_xmodal.files.dicom_kinds import CONTOURS
from nnunet_xmodal.files.dicom_seg import write_dicom_seg
from nnunet_xmodal.files.segment_codes import segments_of
from nnunet_xmodal.preparation.case_inputs import read_scan

pydicom = pytest.importorskip("pydicom", reason='pydicom is not installed: pip install "nnunet-xmodal[dicom]"')
pytest.importorskip("highdicom", reason='highdicom is not installed: pip install "nnunet-xmodal[dicom]"')

CHANNELS = ("--channels", "T2W=t2w", "ADC=adc", "--label", "*seg*")
TWO = {"prostate": 1, "lesion": 2}
REGIONS = {"whole": [1, 2], "core": 2}


@pytest.fixture
def case(scans, tmp_path):
    """Two series of a patient: a fine one, and a coarse one that lies straight. 8 columns: see test_dicom_seg."""
    for name, grid in {
        "t2w": scans.grid_around((24, 20, 8), (1.0, 1.1, 3.0), scans.oblique),
        "adc": scans.grid_around((16, 14, 9), (2.0, 2.0, 3.5), np.eye(3)),
    }.items():
        scans.write_dicom(sitk.Cast(scans.scan_of(grid), sitk.sitkInt16), tmp_path / "in" / "anna" / name)
    return tmp_path / "in" / "anna"


def label_map(scans, grid):
    """A ball of 1, in which a smaller one is 2, away from the grid's ends."""
    return scans.ball_of(grid, 7) + scans.ball_of(grid, 4, (1, 1, 0))


def segmentation(scans, case, series="t2w", labels=TWO, file="seg.dcm", values=None):
    """Write a label map on a series; returns it."""
    scan = read_scan(case / series)
    made = label_map(scans, scan.image)
    if values is not None:
        made = sitk.ChangeLabel(made, values)
    segments = segments_of({"labels": {"background": 0, **labels}})
    (case / file).parent.mkdir(exist_ok=True)
    write_dicom_seg(made, scan.slices, segments, case / file, "a reader")
    return made


def prepared(raw, case, *flags, channels=CHANNELS, output=NAME):
    run(case.parent, *channels, *flags, output=output)
    return image(raw, "labelsTr/anna.nii.gz", output)


def voxels(label):
    return sitk.GetArrayFromImage(label)


def fault(raw, case, *flags, channels=CHANNELS):
    run(case.parent, *channels, *flags, code=1)
    row = rows_of(raw)["anna", ""]
    assert row["status"] == "fault"
    return row["note"]


@pytest.mark.parametrize(
    "flags, new",
    [
        (("--labels", "prostate=1", "lesion=2"), (0, 1, 2)),
        (("--labels", "Lesion=1", "PROSTATE=2"), (0, 2, 1)),
        (("--labels", "Lesion=1", "PROSTATE=2", "--map", "1:2", "2:1"), (0, 1, 2)),
        (("--labels", "a=1", "b=2"), (0, 1, 2)),
        (("--labels", "a=1", "b=2", "--map", "1:2", "2:1"), (0, 2, 1)),
        (("--labels", "target=1", "--map", "1:0", "2:1"), (0, 0, 1)),
        (("--labels", "lesion=1", "--map", "1:0", "2:1"), (0, 0, 1)),
        (("--labels", "organ=1", "--map", "2:1"), (0, 1, 1)),
        (("--labels", "whole=1,2", "core=2"), (0, 1, 2)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else None,
)
def test_segments_by_name_and_by_number(scans, case, raw, flags, new):
    made = segmentation(scans, case)
    found = prepared(raw, case, *flags)
    np.testing.assert_array_equal(voxels(found), np.array(new)[voxels(made)])
    assert rows_of(raw)["anna", "label"]["resampled"] == "yes"  # empty slices are not in the file


@pytest.mark.parametrize("file", ["seg.dcm", "a segmentation/1.dcm", "my_seg"])
def test_one_segment_as_a_file_and_alone_in_a_folder(scans, case, raw, file):
    made = segmentation(scans, case, labels={"lesion": 1}, file=file, values={2: 1})
    np.testing.assert_array_equal(voxels(prepared(raw, case, "--labels", "lesion=1")), voxels(made))


def test_regions_lie_over_each_other(scans, case, raw):
    made = segmentation(scans, case, labels=REGIONS)
    np.testing.assert_array_equal(voxels(prepared(raw, case, "--labels", "whole=1,2", "core=2")), voxels(made))
    run(case.parent, *CHANNELS, "--labels", "whole=1", "core=2", output="Dataset511_Flat", code=1)
    note = rows_of(raw, "Dataset511_Flat")["anna", ""]["note"]
    assert "the segments whole and core overlap, and a voxel has one label: name them as regions" in note


@pytest.mark.parametrize("drawn_on, reference", [("t2w", "ADC"), ("adc", "T2W"), ("adc", "ADC")])
def test_it_is_brought_onto_any_reference(scans, case, raw, drawn_on, reference):
    made = segmentation(scans, case, series=drawn_on)
    found = prepared(raw, case, "--labels", "prostate=1", "lesion=2", "--reference", reference)
    target = read_scan(case / reference.lower()).image
    expected = sitk.Resample(made, target, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert found.GetSize() == target.GetSize()
    np.testing.assert_array_equal(voxels(found), voxels(expected))
    assert set(np.unique(voxels(found))) == {0, 1, 2}


def test_the_grid_of_the_segmentation_can_be_the_reference(scans, case, raw):
    made = segmentation(scans, case)
    found = prepared(raw, case, "--labels", "prostate=1", "lesion=2", "--reference", "label")
    assert found.GetSize()[2] < made.GetSize()[2]
    again = sitk.Resample(found, made, sitk.Transform(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(voxels(again), voxels(made))


def test_a_file_with_nothing_in_it_is_a_case_without_lesion(scans, case, raw):
    segmentation(scans, case, values={1: 0, 2: 0})
    assert not voxels(prepared(raw, case, "--labels", "prostate=1", "lesion=2")).any()


def test_a_name_that_is_no_label_beside_one_that_is_asks_what_becomes_of_it(scans, case, raw):
    """Number 1 is no lesion, though the label lesion has the value 1."""
    segmentation(scans, case)
    note = fault(raw, case, "--labels", "lesion=1")
    assert "has the segments 1 (prostate), 2 (lesion), and prostate is none of the labels" in note
    assert "--map 1:0 2:1" in note
    assert note == fault(raw, case, "--labels", "lesion=1", "--overwrite", "--map", "2:0")


def test_a_number_that_has_no_label_is_told(scans, case, raw):
    segmentation(scans, case)
    assert "holds the label 2, which none of background, a has" in fault(raw, case, "--labels", "a=1")


def test_two_segmentations_are_told(scans, case, raw):
    for number in (1, 2):
        segmentation(scans, case, file=f"segs/{number}.dcm")
    assert "holds 2 DICOM segmentations, 1.dcm and 2.dcm" in fault(raw, case, "--labels", "prostate=1", "lesion=2")


@pytest.mark.parametrize("label", ["rt*", "rt*/*.dcm"])
def test_contours_are_told_what_makes_voxels_of_them(case, raw, label):
    made, meta = pydicom.Dataset(), pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CONTOURS, pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.file_meta, made.SOPClassUID, made.SOPInstanceUID = meta, CONTOURS, meta.MediaStorageSOPInstanceUID
    (case / "rt").mkdir()
    made.save_as(case / "rt" / "struct.dcm", enforce_file_format=True)
    note = fault(raw, case, "--labels", "lesion=1", channels=(*CHANNELS[:-1], label))
    assert "struct.dcm is an RTSTRUCT, contours on the slices of a series and no voxels" in note
    assert "plastimatch convert" in note and not list((raw / NAME).rglob("*.nii.gz"))


def test_without_highdicom_a_sentence_tells_how_to_get_it(scans, case, raw, monkeypatch):
    segmentation(scans, case)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    note = fault(raw, case, "--labels", "prostate=1", "lesion=2")
    assert "seg.dcm is a DICOM segmentation" in note and 'pip install "nnunet-xmodal[dicom]"' in note
