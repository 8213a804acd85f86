import json

import pytest

from nnunet_xmodal.comparison.cross_validation import read_dataset_json, read_model, read_predictions
from nnunet_xmodal.errors import XModalError


def test_every_case_is_found_with_its_fold_and_what_the_summary_tells(results):
    folder = results.add("nnUNetTrainer", shift=1)
    model = read_model("nnU-Net", folder, [0, 1, 2])
    assert {case: result.fold for case, result in model.cases.items()} == {
        "a_1": "0",
        "a_2": "0",
        "b_1": "1",
        "b_2": "1",
        "c_1": "2",
        "c_2": "2",
    }
    reported = model.cases["b_2"].reported
    assert set(reported) == {"whole", "core"} and 0 < reported["core"]["Dice"] < reported["whole"]["Dice"] < 1
    assert "TP" not in reported["core"]
    assert model.is_segmentation and not model.missing


def test_a_missing_fold_is_named(results):
    folder = results.add("nnUNetTrainer", shift=1, folds={0: ("a_1", "a_2")})
    model = read_model("nnU-Net", folder, [0, 1])
    assert model.missing == [f"{folder / 'fold_1' / 'validation' / 'summary.json'} is missing"]


def test_metrics_that_are_no_segmentation_need_no_images(results):
    folder = results.add("nnUNetTrainer", shift=1)
    file = folder / "fold_0" / "validation" / "summary.json"
    case = {"prediction_file": "anywhere/a_1.nii.gz", "metrics": {"1": {"SRE_mm": 2.5, "Dice": None}}}
    file.write_text(json.dumps({"metric_per_case": [case], "xmodal": {"directions": {"SRE_mm": "lower"}}}))
    for image in file.parent.glob("*.nii.gz"):
        image.unlink()
    model = read_model("registration", folder, [0])
    assert not model.is_segmentation and model.directions == {"SRE_mm": "lower"}
    assert model.cases["a_1"].reported["1"]["SRE_mm"] == 2.5


def test_summaries_must_fit_the_files_beside_them(results):
    folder = results.add("nnUNetTrainer", shift=1)
    validation = folder / "fold_0" / "validation"
    (validation / "a_1.nii.gz").rename(validation / "a_3.nii.gz")
    with pytest.raises(XModalError, match="a_1.nii.gz is missing, but summary.json lists it"):
        read_model("nnU-Net", folder, [0])
    (validation / "a_3.nii.gz").rename(validation / "a_1.nii.gz")
    (validation / "stray.nii.gz").write_bytes(b"")
    with pytest.raises(XModalError, match="stray.nii.gz is not in the summary.json beside it"):
        read_model("nnU-Net", folder, [0])


@pytest.mark.parametrize("content", ["{", '{"metric_per_case": [{}]}', "[]", '{"metric_per_case": 3}'])
def test_a_damaged_summary_is_named(results, content):
    folder = results.add("nnUNetTrainer", shift=1)
    (folder / "fold_1" / "validation" / "summary.json").write_text(content)
    with pytest.raises(XModalError, match="fold_1.*summary.json"):
        read_model("nnU-Net", folder, [0, 1])


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda summary: summary["metric_per_case"][0]["metrics"]["(2,)"].update(Dice="high"), "no summary .* 'high'"),
        (
            lambda summary: summary["metric_per_case"][0]["metrics"]["(2,)"].update(TRE=10**400),
            "no summary .*large",
        ),
        (lambda summary: summary["metric_per_case"][0].update(metrics={}), "no metrics of b_1"),
        (lambda summary: summary["metric_per_case"].append(summary["metric_per_case"][0]), "lists b_1 twice"),
        (lambda summary: summary.update(xmodal=None), "no summary"),
        (lambda summary: summary.update(xmodal={"directions": ["TRE"]}), "no summary"),
        (lambda summary: summary.update(xmodal={"directions": {"TRE": "max"}}), "'max' for TRE: use \"higher\" or"),
        (lambda summary: summary.update(xmodal={"directions": {"SSIM": "lower"}}), "'lower' for SSIM"),
    ],
)
def test_a_summary_that_cannot_be_meant_is_named(results, change, sentence):
    folder = results.add("nnUNetTrainer", shift=1)
    for fold, how in ((0, lambda summary: summary.update(xmodal={"directions": {"SSIM": "higher"}})), (1, change)):
        file = results.validation("nnUNetTrainer", fold) / "summary.json"
        summary = json.loads(file.read_text())
        how(summary)
        file.write_text(json.dumps(summary))
    with pytest.raises(XModalError, match=sentence):
        read_model("nnU-Net", folder, [0, 1])


def test_a_summary_may_come_from_elsewhere(results):
    folder = results.add("nnUNetTrainer", shift=1)
    file = results.validation("nnUNetTrainer", 0) / "summary.json"
    summary = json.loads(file.read_text())
    for case in summary["metric_per_case"]:
        case["prediction_file"] = "D:\\results\\" + case["prediction_file"].rpartition("/")[2]
    file.write_text(json.dumps(summary))
    (file.parent / "._a_1.nii.gz").write_bytes(b"left by another system")
    assert sorted(read_model("nnU-Net", folder, [0, 0]).cases) == ["a_1", "a_2"]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"file_ending": ".nii.gz"}',
        '{"labels": {"tumour": 1}}',
        '{"labels": {"tumour": 1}, "file_ending": ""}',
        '{"labels": {"1": "tumour"}, "file_ending": ".nii.gz"}',  # of the first nnU-Net
        '{"labels": ["tumour"], "file_ending": ".nii.gz"}',
        '{"labels": {"ignore": [1]}, "file_ending": ".nii.gz"}',
    ],
)
def test_a_damaged_dataset_json_is_named(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(XModalError, match=r"dataset\.json"):
        read_dataset_json(tmp_path / "dataset.json")


def test_a_case_of_two_folds_is_refused(results):
    folder = results.add("nnUNetTrainer", shift=1, folds={0: ("a_1", "a_2"), 1: ("a_1", "b_1")})
    with pytest.raises(XModalError, match="a_1 in the folds 0 and 1"):
        read_model("nnU-Net", folder, [0, 1])


def test_no_model_and_no_predictions(results, tmp_path):
    with pytest.raises(XModalError, match="there is no trained model"):
        read_model("x", tmp_path / "nothing", [0])
    with pytest.raises(XModalError, match="does not exist"):
        read_predictions("x", tmp_path / "nothing", results.dataset_json)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a_1.mha").touch()
    with pytest.raises(XModalError, match=r"no files that end in \.nii\.gz, only \.mha"):
        read_predictions("x", tmp_path / "other", results.dataset_json)
    with pytest.raises(XModalError, match="without labels"):
        read_predictions("x", results.references, {"labels": {"background": 0}, "file_ending": ".nii.gz"})


def test_predictions_adopt_the_folds_of_a_cross_validation(results):
    model = read_predictions("x", results.references, results.dataset_json)
    model.adopt_folds({"a_1": "0", "b_1": "1"})
    assert (model.cases["a_1"].fold, model.cases["b_1"].fold, model.cases["c_1"].fold) == ("0", "1", "")
