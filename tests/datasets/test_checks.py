"""Every fault that nnU-Net would swallow is one sentence with the file and the way out."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.datasets.cases import cases_in_folder, training_cases
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.errors import XModalError

DATASET = {
    "channel_names": {"0": "T2W", "1": "ADC"},
    "labels": {"background": 0, "lesion": 1},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def write(path, array, spacing=(1.0, 1.0, 2.0), origin=(0.0, 0.0, 0.0), direction=None):
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction:
        image.SetDirection(direction)
    path.parent.mkdir(exist_ok=True, parents=True)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def raw(tmp_path):
    """Two sound cases of two channels."""
    rng = np.random.default_rng(0)
    for case in ("a", "b"):
        for channel in range(2):
            write(tmp_path / "imagesTr" / f"{case}_000{channel}.nii.gz", rng.normal(size=(4, 6, 8)).astype("float32"))
        write(tmp_path / "labelsTr" / f"{case}.nii.gz", (rng.normal(size=(4, 6, 8)) > 1).astype("uint8"))
    return tmp_path


def check(raw, dataset=DATASET):
    check_cases(training_cases(raw, dataset), dataset, progress=False)


def test_sound_cases_pass(raw):
    check(raw)
    assert [case.name for case in cases_in_folder(raw / "imagesTr", DATASET)] == ["a", "b"]


@pytest.mark.parametrize("channel", [0, 1])
def test_a_missing_channel_is_told_by_its_number(raw, channel):
    (raw / "imagesTr" / f"b_000{channel}.nii.gz").unlink()
    with pytest.raises(XModalError, match=rf"b_000{channel}\.nii\.gz is missing: case b needs channel {channel}"):
        check(raw)


def test_a_channel_too_many(raw):
    (raw / "imagesTr" / "a_0002.nii.gz").write_bytes((raw / "imagesTr" / "a_0001.nii.gz").read_bytes())
    with pytest.raises(XModalError, match=r"a_0002\.nii\.gz is one channel too many"):
        check(raw)


def test_a_file_without_channel_number(raw):
    (raw / "imagesTr" / "a_0001.nii.gz").rename(raw / "imagesTr" / "a_ADC.nii.gz")
    with pytest.raises(XModalError, match=r"a_ADC\.nii\.gz has no channel number"):
        check(raw)


def test_a_case_without_label(raw):
    (raw / "labelsTr" / "b.nii.gz").unlink()
    with pytest.raises(XModalError, match=r"b\.nii\.gz is missing: every training case needs a label map"):
        check(raw)


def test_another_number_of_cases_than_dataset_json_says(raw):
    with pytest.raises(XModalError, match="numTraining 7 but .* holds 2 cases"):
        check(raw, {**DATASET, "numTraining": 7})


@pytest.mark.parametrize(
    "changed, name",
    [
        ({"array": np.zeros((4, 6, 9), "float32")}, "size"),
        ({"spacing": (1.0, 1.1, 2.0)}, "spacing"),
        ({"origin": (0.0, 5.0, 0.0)}, "origin"),
        ({"direction": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)}, "direction"),
    ],
)
@pytest.mark.parametrize("file", ["imagesTr/b_0001.nii.gz", "labelsTr/b.nii.gz"])
def test_other_geometry_is_named(raw, changed, name, file):
    dtype = "float32" if "images" in file else "uint8"
    write(raw / file, **{"array": np.zeros((4, 6, 8), dtype), **changed})
    with pytest.raises(XModalError, match=rf"{file} has the {name} .* but .*b_0000\.nii\.gz has .*: resample"):
        check(raw)


def test_geometry_may_differ_by_rounding(raw):
    write(raw / "imagesTr" / "b_0001.nii.gz", np.zeros((4, 6, 8), "float32"), (1.000001, 1.0, 2.0), (0.0, 1e-4, 0.0))
    check(raw)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(raw, value):
    array = np.zeros((4, 6, 8), "float32")
    array[1, 2, 3] = value
    write(raw / "imagesTr" / "a_0001.nii.gz", array)
    with pytest.raises(XModalError, match=r"a_0001\.nii\.gz holds NaN or infinite voxels"):
        check(raw)


def test_a_truncated_image(raw):
    file = raw / "imagesTr" / "a_0000.nii.gz"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(XModalError, match=r"a_0000\.nii\.gz cannot be read"):
        check(raw)


def test_an_unknown_label(raw):
    label = np.zeros((4, 6, 8), "uint8")
    label[0, 0, 0] = 7
    write(raw / "labelsTr" / "b.nii.gz", label)
    with pytest.raises(XModalError, match=r"b\.nii\.gz holds the label 7, which dataset\.json does not name"):
        check(raw)


def test_values_of_regions_and_of_the_ignore_label_are_known(raw):
    label = np.zeros((4, 6, 8), "uint8")
    label[0, 0, :3] = (1, 2, 3)
    write(raw / "labelsTr" / "b.nii.gz", label)
    check(raw, {**DATASET, "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}})


def test_other_faulty_cases_are_counted(raw):
    for case in ("a", "b"):
        write(raw / "imagesTr" / f"{case}_0001.nii.gz", np.full((4, 6, 8), np.nan, "float32"))
    with pytest.raises(XModalError, match=r"a_0001.*\(1 other cases have faults, too\.\)"):
        check(raw)


@pytest.mark.slow
def test_workers_find_the_same_fault(raw):
    write(raw / "imagesTr" / "b_0001.nii.gz", np.full((4, 6, 8), np.nan, "float32"))
    with pytest.raises(XModalError, match=r"b_0001\.nii\.gz holds NaN"):
        check_cases(training_cases(raw, DATASET), DATASET, processes=2, progress=False)


def test_file_lists_of_dataset_json_are_used(raw):
    listed = {
        name: {
            "images": [f"imagesTr/{name}_0000.nii.gz", f"imagesTr/{name}_0001.nii.gz"],
            "label": f"labelsTr/{name}.nii.gz",
        }
        for name in ("a", "b")
    }
    check(raw, json.loads(json.dumps({**DATASET, "dataset": listed})))
    listed["b"]["images"].pop()
    with pytest.raises(XModalError, match="lists 1 images for b but 2 channels"):
        check(raw, {**DATASET, "dataset": listed})


def test_a_missing_and_an_empty_folder(tmp_path):
    with pytest.raises(XModalError, match="does not exist"):
        cases_in_folder(tmp_path / "nowhere", DATASET)
    with pytest.raises(XModalError, match=r"holds no files that end in \.nii\.gz"):
        cases_in_folder(tmp_path, DATASET)


def test_nothing_to_check_is_fine():
    check_cases([], DATASET, processes=2, progress=False)


def test_a_hidden_file_that_nnunet_would_read(raw):
    (raw / "imagesTr" / "._a_0000.nii.gz").write_bytes(b"of another system")
    with pytest.raises(XModalError, match=r"\._a_0000\.nii\.gz is a hidden file"):
        check(raw)


def test_natural_images_hold_all_channels_in_one_file(tmp_path):
    dataset = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "road": 1},
        "numTraining": 1,
        "file_ending": ".png",
    }
    for folder, array, vector in (
        ("imagesTr", np.zeros((8, 8, 3), "uint8"), True),
        ("labelsTr", np.ones((8, 8), "uint8"), False),
    ):
        (tmp_path / folder).mkdir()
        name = "a_0000.png" if vector else "a.png"
        sitk.WriteImage(sitk.GetImageFromArray(array, isVector=vector), str(tmp_path / folder / name))
    check(tmp_path, dataset)
    with pytest.raises(XModalError, match=r"a_0000\.png holds 3 channels, but dataset\.json names 2"):
        check(tmp_path, {**dataset, "channel_names": {"0": "R", "1": "G"}})


def test_a_picture_with_colours_is_no_single_channel(tmp_path):
    """Two files of a case, one of them saved as RGB."""
    dataset = {
        "channel_names": {"0": "stain", "1": "fluorescence"},
        "labels": {"background": 0, "cell": 1},
        "numTraining": 1,
        "file_ending": ".png",
    }
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    grey = sitk.GetImageFromArray(np.zeros((8, 8), "uint8"))
    colour = sitk.GetImageFromArray(np.zeros((8, 8, 3), "uint8"), isVector=True)
    for name, image in (("imagesTr/a_0000", grey), ("imagesTr/a_0001", grey), ("labelsTr/a", grey)):
        sitk.WriteImage(image, str(tmp_path / f"{name}.png"))
    check(tmp_path, dataset)
    sitk.WriteImage(colour, str(tmp_path / "imagesTr" / "a_0001.png"))
    with pytest.raises(XModalError, match=r"a_0001\.png holds 3 channels, but a has a file for each"):
        check(tmp_path, dataset)
