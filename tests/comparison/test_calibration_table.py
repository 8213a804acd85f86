"""Calibration of results with probabilities: cases, bins, temperatures of other folds, the report."""

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from sklearn.metrics import brier_score_loss

from nnunet_xmodal.commands.compare import parser, request_of
from nnunet_xmodal.comparison.calibration_table import Calibration, CalibrationRequest, calibrate, temperature_notes
from nnunet_xmodal.comparison.case_cache import CaseCache
from nnunet_xmodal.comparison.cross_validation import read_model
from nnunet_xmodal.comparison.run import compare
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.calibration import judged_box

SPACING = (3.0, 1.0, 0.5)


@pytest.fixture
def add(results):
    """`(trainer, sharpness)` → model whose logits are those of right probabilities, times the sharpness."""

    def add(trainer: str, sharpness: float):
        folder = results.add(trainer, shift=0)
        rng = np.random.default_rng(0)
        for fold in range(3):
            for file in sorted(results.validation(trainer, fold).glob("*.nii.gz")):
                array = sitk.GetArrayFromImage(sitk.ReadImage(str(results.references / file.name)))
                truth = np.stack([array > 0, array == 2])
                box = judged_box(array > 0, SPACING)
                share = truth[(slice(None), *box)].mean((1, 2, 3)).reshape(-1, 1, 1, 1)
                # evidence that is right as often as it says, and how frequent the label is
                strength = rng.exponential(1.5, truth.shape)
                is_right = rng.uniform(size=truth.shape) < 1 / (1 + np.exp(-strength))
                logits = sharpness * (np.where(truth == is_right, 1, -1) * strength + np.log(share / (1 - share)))
                p = 1 / (1 + np.exp(-logits))
                np.savez(file.with_name(f"{file.name[:-7]}.npz"), probabilities=p.astype(np.float32))
                results.write_label_map(np.where(p[1] > 0.5, 2, p[0] > 0.5), file)
            results.summarise(trainer, fold)
        return folder

    return add


def test_cases_bins_and_temperatures(results, add, tmp_path):
    models = [read_model(name, add(name, sharpness), [0, 1, 2]) for name, sharpness in (("right", 1), ("sure", 3))]
    cases = sorted(models[0].cases)
    cache = CaseCache(tmp_path / "cache")
    request = CalibrationRequest(models, cases, results.references, cache, processes=1, temperature=True)
    found = calibrate(request)
    assert list(found.metrics) == ["ECE", "Brier", "ECE_T", "Brier_T"]
    table = found.cases.set_index(["model", "case", "label"])
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(results.references / "b_2.nii.gz"))) > 0
    p = np.load(results.validation("sure", 1) / "b_2.npz")["probabilities"][0]
    box = judged_box(array, SPACING)
    assert table.loc[("sure", "b_2", "whole"), "Brier"] == pytest.approx(
        brier_score_loss(array[box].ravel(), p[box].ravel())
    )
    whole = found.cases[found.cases["label"] == "whole"]
    means = whole.groupby("model")[list(found.metrics)].mean()
    assert means.loc["sure", "ECE"] > 2 * means.loc["sure", "ECE_T"]
    assert means.loc["sure", "Brier"] > means.loc["sure", "Brier_T"]
    assert found.temperatures == {"right": pytest.approx(1, rel=0.1), "sure": pytest.approx(3, rel=0.1)}
    bins = found.bins[
        (found.bins["model"] == "sure") & (found.bins["temperature"] == "") & (found.bins["label"] == "core")
    ]
    voxels = sum(
        np.zeros((10, 24, 28))[judged_box(array == 2, SPACING)].size
        for case in cases
        for array in [sitk.GetArrayFromImage(sitk.ReadImage(str(results.references / f"{case}.nii.gz")))]
    )
    assert bins["voxels"].sum() == voxels
    assert ((bins["from"] <= bins["mean_probability"]) & (bins["mean_probability"] <= bins["to"])).all()
    again = calibrate(request)
    pd.testing.assert_frame_equal(again.cases, found.cases)


def test_a_report_with_calibration_and_the_stored_temperature(results, add, undrawn, tmp_path):
    folder = add("nnUNetTrainer", 2)
    words = ["-o", tmp_path / "report", "-d", 900, "-c", "2d", "-tr", "nnUNetTrainer", "-f", 0, 1, 2, "-np", 1]
    contents = compare(
        request_of(parser().parse_args([*map(str, words), "--calibration", "--temperature", "--overlays", "0"]))
    )
    stored = json.loads((folder / "temperature.json").read_text())
    assert stored["cases"] == 6 and stored["folds"] == ["0", "1", "2"] and stored["temperature"] > 1
    assert any("stored as" in note for note in contents.notes)
    cases = pd.read_csv(tmp_path / "report" / "cases.csv")
    assert {"ECE", "Brier", "ECE_T", "Brier_T"} <= set(cases) and cases["ECE_T"].notna().all()
    assert len(pd.read_csv(tmp_path / "report" / "reliability.csv"))
    assert "reliability: below the diagonal" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize("temperature, told", [(0.1, True), (1.0, False), (9.9, False), (10.0, True)])
def test_a_temperature_at_the_end_of_what_was_tried_is_told(results, add, temperature, told):
    model = read_model("A", add("A", 1), [0, 1, 2])
    calibration = Calibration(pd.DataFrame(), {}, pd.DataFrame(), {"A": temperature})
    (note,) = temperature_notes(calibration, [model])
    assert ("at the end of what was tried" in note) == told


def test_without_probabilities_or_folds_it_is_a_sentence(results, add, tmp_path):
    words = ["-o", tmp_path / "report", "-d", 900, "-c", "2d", "-tr", "nnUNetTrainer", "-f", 0, 1, 2, "--calibration"]
    results.add("nnUNetTrainer", shift=0)
    with pytest.raises(XModalError, match=r"a_1\.npz is missing: --calibration needs probabilities"):
        compare(request_of(parser().parse_args([str(word) for word in words])))
    add("nnUNetTrainer", 1)
    words += ["--temperature", "--folders", results.validation("nnUNetTrainer", 0)]
    assert not (tmp_path / "report").exists()
    with pytest.raises(XModalError, match="add --calibration"):
        request_of(parser().parse_args(["-o", "report", "--temperature"]))


def test_a_temperature_is_stored_last_and_only_where_it_means_something(results, add, undrawn, tmp_path, monkeypatch):
    folder = add("nnUNetTrainer", 2)
    words = ["-o", tmp_path / "report", "-d", 900, "-c", "2d", "-tr", "nnUNetTrainer", "-np", 1, "--overlays", 0]

    def ask(*folds):
        flags = [*words, "-f", *folds, "--calibration", "--temperature"]
        return compare(request_of(parser().parse_args([str(word) for word in flags])))

    def no_report(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(XModalError, match="No space left"):
        patched.setattr("nnunet_xmodal.comparison.run.write_report", no_report)
        ask(0, 1, 2)
    assert not (folder / "temperature.json").exists()
    ask(0, 1, 2)
    stored = (folder / "temperature.json").read_text()
    with pytest.raises(XModalError, match="was fitted on the folds 0 1 2, and these are 0 1: give all of them with -f"):
        ask(0, 1)
    assert (folder / "temperature.json").read_text() == stored
    (folder / "fold_0").rename(folder / "fold_all")
    with pytest.raises(XModalError, match=r"cases that nnUNetTrainer was trained on \(fold all\)"):
        ask("all")


def test_cases_without_a_label_have_no_bins(results, add, tmp_path):
    model = read_model("right", add("right", 1), [0])
    for case in model.cases:
        file = str(results.references / f"{case}.nii.gz")
        sitk.WriteImage(0 * sitk.ReadImage(file), file)
    request = CalibrationRequest(
        [model], sorted(model.cases), results.references, CaseCache(tmp_path / "c"), processes=1
    )
    found = calibrate(request)
    assert found.bins.empty and "label" in found.bins and found.cases["ECE"].isna().all()
