"""All cases along the same axes: scans, and an existing raw dataset; no voxel changes."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.commands.prepare import main
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.orientation import code_of

STORED = {"a": "LPS", "b": "RAS", "c": "PSR", "d": "LPI"}


def prepare(source, output, *flags):
    main(["-i", str(source), "-o", output, "-np", "1", *flags])


def read(file):
    return sitk.ReadImage(str(file))


def axes(file):
    return code_of(read(file).GetDirection())


def voxels_of(image):
    """As stored along LPS."""
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))


@pytest.fixture
def images(scans):
    """Case → its two channels and its label, oblique, each stored in its own way."""
    made = {}
    for case, code in STORED.items():
        grid = scans.grid_around((12, 10, 8), (1.0, 1.3, 3.0), scans.oblique)
        triple = (scans.scan_of(grid), scans.scan_of(grid, height=500.0), scans.ball_of(grid, centre=(2, 3, 1)))
        made[case] = [sitk.DICOMOrient(image, code) for image in triple]
    return made


@pytest.fixture
def raw_dataset(images, scans, raw):
    """Dataset602 with a, b and c for training and d for a test, with what else a dataset.json may say."""
    folder = raw / "Dataset602_Mixed"
    for case, (first, second, label) in images.items():
        split = "Ts" if case == "d" else "Tr"
        scans.write(first, folder / f"images{split}" / f"{case}_0000.nii.gz")
        scans.write(second, folder / f"images{split}" / f"{case}_0001.nii.gz")
        scans.write(label, folder / f"labels{split}" / f"{case}.nii.gz")
    described = {
        "channel_names": {"0": "T2W", "1": "CT"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2},
        "regions_class_order": [1, 2],
        "numTraining": 3,
        "file_ending": ".nii.gz",
        "description": "mixed",
        "xmodal": {"streams": [["T2W"], [1]]},
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def test_a_raw_dataset_is_turned_without_changing_a_voxel(raw_dataset, images, raw):
    before = {file: file.read_bytes() for file in raw_dataset.rglob("*") if file.is_file()}
    prepare(raw_dataset, "Dataset603_LPS", "--orientation", "lps")
    made = raw / "Dataset603_LPS"
    for case, triple in images.items():
        split = "Ts" if case == "d" else "Tr"
        names = (f"images{split}/{case}_0000", f"images{split}/{case}_0001", f"labels{split}/{case}")
        for name, image in zip(names, triple):
            written = read(made / f"{name}.nii.gz")
            assert code_of(written.GetDirection()) == "LPS"
            assert np.array_equal(sitk.GetArrayFromImage(written), voxels_of(image))
            middle = [side // 3 for side in written.GetSize()]
            point = written.TransformIndexToPhysicalPoint(middle)
            assert written[middle] == image[image.TransformPhysicalPointToIndex(point)]
    assert json.loads((made / "dataset.json").read_text()) == {
        **json.loads((raw_dataset / "dataset.json").read_text()),
        "xmodal": {"streams": [["T2W"], ["CT"]], "orientation": "LPS"},
    }
    assert before == {file: file.read_bytes() for file in raw_dataset.rglob("*") if file.is_file()}
    assert "turned from PSR to LPS" in (made / "prepare.csv").read_text()


def test_a_raw_dataset_is_found_by_its_name(raw_dataset, raw):
    prepare("Dataset602_Mixed", "Dataset603_LPS", "--orientation", "RAS")
    assert {axes(file) for file in (raw / "Dataset603_LPS").rglob("*.nii.gz")} == {"RAS"}


@pytest.mark.parametrize(
    "flags", [("--register",), ("--map", "1:2"), ("--reference", "label"), ("--roi", "whole"), ("--unlabelled", "Ts")]
)
def test_a_raw_dataset_is_turned_as_it_is(raw_dataset, raw, flags):
    with pytest.raises(SystemExit):
        prepare(raw_dataset, "Dataset603_LPS", "--orientation", "LPS", *flags)
    assert not (raw / "Dataset603_LPS").exists()


def test_scans_are_turned_where_they_are(images, scans, tmp_path, raw):
    for case, (first, second, label) in images.items():
        for name, image in (("t2", first), ("adc", second), ("seg", label)):
            scans.write(image, tmp_path / "patients" / case / f"{name}.nii.gz")
    words = ("--channels", "T2W=t2*", "ADC=adc*", "--label", "seg*", "--labels", "lesion=1", "--orientation", "LPS")
    prepare(tmp_path / "patients", "Dataset604_Scans", *words)
    made = raw / "Dataset604_Scans"
    for case, triple in images.items():
        for name, image in zip((f"imagesTr/{case}_0000", f"imagesTr/{case}_0001", f"labelsTr/{case}"), triple):
            assert axes(made / f"{name}.nii.gz") == "LPS"
            assert np.array_equal(sitk.GetArrayFromImage(read(made / f"{name}.nii.gz")), voxels_of(image))
    assert json.loads((made / "dataset.json").read_text())["xmodal"] == {"orientation": "LPS"}


def test_without_the_flag_scans_stay_as_they_are(images, scans, tmp_path, raw):
    scans.write(images["c"][0], tmp_path / "patients" / "c" / "t2.nii.gz")
    prepare(tmp_path / "patients", "Dataset604_Scans", "--channels", "T2W=t2*")
    assert axes(raw / "Dataset604_Scans" / "imagesTs" / "c_0000.nii.gz") == "PSR"
    settings = json.loads((raw / "Dataset604_Scans" / "preparation" / "settings.json").read_text())
    assert "orientation" not in settings  # datasets that were prepared before there was one go on


@pytest.mark.parametrize("code", ["LPX", "LLS", "LP", "", "lpss", "L P S"])
def test_other_words_are_no_orientation(raw_dataset, code):
    from nnunet_xmodal.preparation.cases_and_settings import cases_and_settings
    from nnunet_xmodal.preparation.request import PreparationRequest

    with pytest.raises(XModalError, match="is no orientation: give three letters"):
        cases_and_settings(PreparationRequest(raw_dataset, "Dataset603_LPS", orientation=code))


def test_a_setting_that_is_left_out_is_another_value(images, scans, tmp_path, raw, capsys):
    scans.write(images["c"][0], tmp_path / "patients" / "c" / "t2.nii.gz")
    prepare(tmp_path / "patients", "Dataset604_Scans", "--channels", "T2W=t2*", "--orientation", "RAS")
    scans.write(images["d"][0], tmp_path / "patients" / "d" / "t2.nii.gz")
    with pytest.raises(SystemExit):
        prepare(tmp_path / "patients", "Dataset604_Scans", "--channels", "T2W=t2*")
    assert "was prepared with another value of orientation" in capsys.readouterr().err
    assert [file.name for file in (raw / "Dataset604_Scans" / "imagesTs").iterdir()] == ["c_0000.nii.gz"]
