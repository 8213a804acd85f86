"""Empty label files: for whom they are written, what they look like, and when nothing is."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from nnunet_xmodal.datasets.unlabelled import existing_files, partly_labelled_cases, write_empty_labels
from nnunet_xmodal.errors import XModalError

CASES = ("a", "b", "c")
GEOMETRY = {"Spacing": (0.7, 0.8, 3.0), "Origin": (4.0, -5.0, 60.0), "Direction": (0, 1, 0, 1, 0, 0, 0, 0, -1)}
DATASET = {
    "channel_names": {"0": "MR"},
    "labels": {"background": 0, "liver": 1, "spleen": 2},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}


def image(array) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    for name, value in GEOMETRY.items():
        getattr(made, f"Set{name}")(value)
    return made


@pytest.fixture
def raw(tmp_path):
    """Three cases, of which b is labelled."""
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for number, case in enumerate(CASES):
        array = np.random.default_rng(number).normal(size=(4, 6 + number, 5)).astype(np.float32)
        sitk.WriteImage(image(array), str(tmp_path / "imagesTr" / f"{case}_0000.nii.gz"))
    label = np.zeros((4, 7, 5), np.uint8)
    label[1, 2:4, 3] = 1
    sitk.WriteImage(image(label), str(tmp_path / "labelsTr" / "b.nii.gz"))
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    return tmp_path


def written(raw) -> dict[str, bytes]:
    return {str(file.relative_to(raw)): file.read_bytes() for file in raw.rglob("*") if file.is_file()}


def test_missing_labels_are_zeros_of_the_images_geometry_and_existing_ones_stay(raw):
    before = written(raw)
    cases = partly_labelled_cases(raw, DATASET)
    assert [case.name for case in existing_files(cases) if case.label] == ["b"]
    assert write_empty_labels(cases, DATASET) == 2
    after = written(raw)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"labelsTr/a.nii.gz", "labelsTr/c.nii.gz"}
    for number, case in ((0, "a"), (2, "c")):
        label = sitk.ReadImage(str(raw / "labelsTr" / f"{case}.nii.gz"))
        array = sitk.GetArrayFromImage(label)
        assert array.shape == (4, 6 + number, 5) and array.dtype == np.uint8 and not array.any()
        for name, value in GEOMETRY.items():
            assert getattr(label, f"Get{name}")() == pytest.approx(value)
    assert write_empty_labels(cases, DATASET) == 0


def test_files_that_dataset_json_lists(raw):
    (raw / "labelsTr" / "b.nii.gz").rename(raw / "imagesTr" / "b_label.nii.gz")
    listed = {
        case: {"images": [f"imagesTr/{case}_0000.nii.gz"], "label": f"imagesTr/{case}_label.nii.gz"} for case in CASES
    }
    dataset = {**DATASET, "dataset": listed}
    assert write_empty_labels(partly_labelled_cases(raw, dataset), dataset) == 2
    assert (raw / "imagesTr" / "c_label.nii.gz").is_file() and not list((raw / "labelsTr").iterdir())
    del listed["c"]["label"]
    with pytest.raises(XModalError, match='lists no "label" for c'):
        partly_labelled_cases(raw, dataset)


def test_tiff_files_keep_their_spacing(tmp_path):
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for case in ("a", "b"):
        tifffile.imwrite(tmp_path / "imagesTr" / f"{case}_0000.tif", np.ones((6, 5, 7), np.float32))
        (tmp_path / "imagesTr" / f"{case}.json").write_text('{"spacing": [3.0, 1.0, 1.0]}')
    tifffile.imwrite(tmp_path / "labelsTr" / "a.tif", np.ones((6, 5, 7), np.uint8))
    dataset = {**DATASET, "file_ending": ".tif", "numTraining": 2, "overwrite_image_reader_writer": "Tiff3DIO"}
    assert write_empty_labels(partly_labelled_cases(tmp_path, dataset), dataset) == 1
    assert not tifffile.imread(tmp_path / "labelsTr" / "b.tif").any()
    assert json.loads((tmp_path / "labelsTr" / "b.json").read_text()) == {"spacing": [3.0, 1.0, 1.0]}
    assert sorted(file.name for file in (tmp_path / "labelsTr").iterdir()) == ["a.tif", "b.json", "b.tif"]


def empty(raw):
    sitk.WriteImage(image(np.zeros((4, 7, 5), np.uint8)), str(raw / "labelsTr" / "b.nii.gz"))


def no_folder(raw):
    (raw / "labelsTr" / "b.nii.gz").unlink()
    (raw / "labelsTr").rmdir()


def cut(raw):
    file = raw / "labelsTr" / "b.nii.gz"
    file.write_bytes(file.read_bytes()[:60])


@pytest.mark.parametrize(
    "spoil, change, message",
    [
        (empty, {}, "none of the 3 training cases .* has a labelled voxel, .* label one case, for example .*a.nii.gz"),
        (no_folder, {}, "none of the 3 training cases"),
        (cut, {}, "b.nii.gz cannot be read"),
        (None, {"labels": {"background": 0}}, "names no label but background"),
        (None, {"numTraining": 1}, "says numTraining 1 but .* holds 3 cases"),
        (None, {"channel_names": {"0": "MR", "1": "CT"}}, "a_0001.nii.gz is missing"),
    ],
)
def test_what_is_wrong_is_a_sentence_before_anything_is_written(raw, spoil, change, message):
    if spoil:
        spoil(raw)
    before = written(raw)
    with pytest.raises(XModalError, match=message):
        partly_labelled_cases(raw, {**DATASET, **change})
    assert written(raw) == before


def test_a_crash_leaves_no_half_file_and_what_is_missing_comes_later(raw, monkeypatch):
    cases = partly_labelled_cases(raw, DATASET)
    replace = os.replace

    def crash(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    before = written(raw)
    with pytest.raises(KeyboardInterrupt):
        write_empty_labels(cases, DATASET)
    assert written(raw) == before
    monkeypatch.setattr(os, "replace", replace)
    assert write_empty_labels(partly_labelled_cases(raw, DATASET), DATASET) == 2
