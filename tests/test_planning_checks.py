"""What planning says of a raw dataset before it writes anything."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal import planning
from nnunet_xmodal.commands import plan_and_preprocess
from nnunet_xmodal.commands.plan_and_preprocess import parser, request_of
from nnunet_xmodal.errors import XModalError


class Stopped(Exception):
    """Raised where nnU-Net's own planning would begin."""


@pytest.fixture
def raw(nnunet_folders, monkeypatch):
    """Two cases of one channel, and planning that ends where nnU-Net's begins."""
    folder = nnunet_folders / "nnUNet_raw" / "Dataset602_Tiny"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number in range(2):
        label = np.zeros((4, 5, 6), np.uint8)
        label[1, 2, 3] = 1
        for name, array in ((f"imagesTr/c_{number}_0000", label * 3.5), (f"labelsTr/c_{number}", label)):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{name}.nii.gz"))
    describe(folder)

    def stop(*args, **others):
        raise Stopped

    monkeypatch.setattr(planning, "extract_fingerprints", stop)
    return folder


def describe(folder, **changes):
    content = {
        "channel_names": {"0": "T2W"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        **changes,
    }
    content = {key: value for key, value in content.items() if value is not None}
    (folder / "dataset.json").write_text(json.dumps(content))


def plan(*words):
    planning.plan_and_preprocess(request_of(parser().parse_args(["-d", "602", "-npfp", "1", "--no_pbar", *words])))


def test_a_sound_dataset_passes_without_a_remark(raw, capsys):
    with pytest.raises(Stopped):
        plan()
    assert "remark" not in capsys.readouterr().err


def test_what_was_planned_is_printed_as_a_table(raw, make_plans, monkeypatch, capsys):
    written = raw.parents[1] / "nnUNet_preprocessed" / raw.name / "nnUNetPlans.json"

    def write_plans(*request):
        written.parent.mkdir(exist_ok=True)
        written.write_text(json.dumps(make_plans(3, patch_size=(16, 32, 32))))
        return None, written.stem

    monkeypatch.setattr(planning, "extract_fingerprints", lambda *request, **others: None)
    monkeypatch.setattr(planning, "plan_experiment_dataset", write_plans)
    plan_and_preprocess.main(["-d", "602", "-npfp", "1", "--no_pbar", "--no_pp"])
    table = capsys.readouterr().out.split(f"{written}:\n")[1].splitlines()
    assert table[0].split()[:2] == ["configuration", "spacing"]
    assert table[1].split() == ["3d_fullres", "1×1×1", "16×32×32", "2", "3", "4–8", "PlainConvUNet"]


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"labels": {"0": "background", "1": "lesion"}}, "other way round"),
        ({"labels": {"lesion": 1}}, "no label background"),
        ({"labels": {"background": 0, "lesion": 1, "core": 3}}, "without a gap"),
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, 'no "regions_class_order"'),
        ({"file_ending": "nii.gz"}, r'write "\.nii\.gz"'),
        ({"numTraining": "2"}, "without quotes"),
        ({"numTraining": None}, 'no "numTraining"'),
        ({"channel_names": ["T2W"]}, "are a list"),
    ],
)
def test_a_dataset_json_that_nnunet_would_misunderstand(raw, changes, sentence):
    describe(raw, **changes)
    with pytest.raises(XModalError, match=sentence):
        plan()


def test_label_maps_that_are_all_empty(raw):
    for file in (raw / "labelsTr").iterdir():
        sitk.WriteImage(sitk.Image(6, 5, 4, sitk.sitkUInt8), str(file))
    with pytest.raises(XModalError, match="none of the 2 label maps"):
        plan()


def test_two_datasets_of_one_number(raw):
    (raw.parent / "Dataset602_Other").mkdir()
    with pytest.raises(XModalError, match="is 2 datasets, .*Dataset602_Other and .*Dataset602_Tiny"):
        plan()


def test_cases_along_other_axes_are_named_with_the_way_out(raw, capsys):
    for file in raw.rglob("c_1*.nii.gz"):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), "PSR"), str(file))
    with pytest.raises(Stopped):
        plan()
    told = capsys.readouterr().err
    assert "c_1 (PSR) is stored along other axes than the rest (LPS)" in told
    assert f"nnUNetXModal_prepare -i {raw} -o DatasetNNN_Tiny --orientation LPS" in told


def test_images_of_another_ending_are_named(raw, capsys):
    (raw / "imagesTr" / "c_2_0000.NII.GZ").touch()
    (raw / "labelsTr" / "c_2.mha").touch()
    with pytest.raises(Stopped):
        plan()
    told = capsys.readouterr().err
    assert "c_2_0000.NII.GZ is not read" in told and "c_2.mha is not read" in told


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["-pl", "RegistrationPlanner"], "RegistrationPlanner needs every channel of every case"),
        (["-pl", "FewShotPlanner"], "FewShotPlanner needs every channel"),
        (["--unlabelled"], "--unlabelled does not go together with --allow_missing"),
        (["-fpe", "Other"], "-fpe does not go together"),
    ],
)
def test_what_does_not_go_together_with_missing_channels(raw, words, sentence):
    with pytest.raises(XModalError, match=sentence):
        plan("--allow_missing", *words)


def test_missing_channels_are_an_error_unless_they_are_allowed(raw, monkeypatch, capsys):
    describe(raw, channel_names={"0": "T2W", "1": "ADC"})
    for number in range(2):
        image = sitk.ReadImage(str(raw / "imagesTr" / f"c_{number}_0000.nii.gz"))
        sitk.WriteImage(image, str(raw / "imagesTr" / f"c_{number}_0001.nii.gz"))
    (raw / "imagesTr" / "c_1_0000.nii.gz").unlink()
    with pytest.raises(XModalError, match="c_1_0000.nii.gz is missing"):
        plan()
    monkeypatch.setattr(planning, "extract_present_fingerprint", planning.extract_fingerprints)
    with pytest.raises(Stopped):
        plan("--allow_missing")
    file = raw.parents[1] / "nnUNet_preprocessed" / raw.name / "missing.json"
    assert json.loads(file.read_text()) == {"c_1": ["T2W"]}
    assert "1 of 2 cases are incomplete" in capsys.readouterr().out
    with pytest.raises(XModalError, match="c_1_0000.nii.gz .* is missing: case c_1 needs all channels of at least one"):
        plan("--allow_missing", "--streams", "T2W+ADC")
    sitk.WriteImage(image, str(raw / "imagesTr" / "c_1_0000.nii.gz"))
    with pytest.raises(Stopped):
        plan()
    assert not file.exists()  # of a dataset that is complete now
