"""Prediction with a stand-in backbone whose features are the intensities themselves."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fast_ones import one_fast_in
from few_shot_scans import (
    DATASET,
    PLANS,
    SIZE,
    TISSUE,
    TRAINER,
    InMemory,
    ordered,
    run,
    scan,
    store_along,
    write,
    write_json_in,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.predict import predict
from nnunet_xmodal.tasks.few_shot.predictor import FewShotPredictor


def stock(folder, tmp_path, folds=(0,)):
    """The same with nnU-Net's own predictor."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), folds)
    (tmp_path / "stock").mkdir(exist_ok=True)
    predictor.predict_from_files_sequential([[str(tmp_path / "in" / "anna_0000.nii.gz")]], str(tmp_path / "stock"))
    return sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "stock" / "anna.nii.gz")))


def test_all_labels_of_the_dataset_are_segmented_at_once(make_model, tmp_path):
    make_model(InMemory(scan(2, 3)))
    volume = scan(3, 4, 2)
    expected = np.where(volume == 2, 1, np.where(volume == 3, 2, 0))
    for match in ("position", "best"):
        np.testing.assert_array_equal(run(tmp_path, volume, "--match", match), expected)


def test_position_asks_the_chunk_there_and_best_asks_all(make_model, tmp_path):
    folder = make_model(InMemory(scan(2, 4, 5), label_of=ordered))
    volume = scan(2, 4, 5, slices=9)
    expected = np.zeros(volume.shape)
    for index in range(9):  # support slices 1, 3 and 5 of 6
        nearest = min((1, 2), (3, 4), (5, 5), key=lambda shown: abs(shown[0] / 5 - index / 8))
        expected[index] = volume[index] == nearest[1]
    np.testing.assert_array_equal(run(tmp_path, volume), expected)
    np.testing.assert_array_equal(run(tmp_path, volume, "--match", "position"), expected)
    best = run(tmp_path, volume, "--match", "best")
    np.testing.assert_array_equal(best, volume > TISSUE)
    np.testing.assert_array_equal(stock(folder, tmp_path), best)


def run_along(code, tmp_path, volume, *flags):
    """As `run`, of the scan stored along other axes; the result as it lies in the patient, and how it is stored."""
    run(tmp_path, volume, *flags)
    store_along(tmp_path / "in", code)
    args = ["-i", tmp_path / "in", "-o", tmp_path / "again", "-d", DATASET, "-p", PLANS, "-c", "2d", "-tr", TRAINER]
    args += ["-device", "cpu", "--disable_progress_bar", "-npp", 0, "-nps", 0, "-f", 0, *flags]
    predict(request_of(parser().parse_args([str(word) for word in args])))
    scanned, found = (sitk.ReadImage(str(tmp_path / name)) for name in ("in/anna_0000.nii.gz", "again/anna.nii.gz"))
    assert found.GetSize() == scanned.GetSize() and np.allclose(found.GetDirection(), scanned.GetDirection())
    assert np.allclose(found.GetOrigin(), scanned.GetOrigin())
    return sitk.GetArrayFromImage(sitk.DICOMOrient(found, "LPS"))


@pytest.mark.parametrize(
    "code, known_by",
    one_fast_in(
        6, [*((code, "validation") for code in ("LPI", "RAS", "PSR", "SAL")), ("PSR", "plans"), ("SAL", "dataset")]
    ),
)
def test_a_scan_may_be_stored_along_any_axes(make_model, tmp_path, code, known_by):
    """From feet to head or from head to feet: positions run along the patient."""
    folder = make_model(InMemory(scan(2, 4, 5), label_of=ordered))
    if known_by == "validation":
        write(folder / "fold_0" / "validation", "case0.nii.gz", scan(2))
    else:
        file, key = ("plans", "stored_axes") if known_by == "plans" else ("dataset", "orientation")
        content = json.loads((folder / f"{file}.json").read_text())
        content["xmodal"] = {**content.get("xmodal", {}), key: "LPS"}
        write_json_in(folder, f"{file}.json", content)
    volume = scan(2, 4, 5, slices=9)
    again = run_along(code, tmp_path, volume)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "anna.nii.gz")))
    assert not np.array_equal(expected, expected[::-1])
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("code, known", one_fast_in(4, [("LPI", False), ("RAI", False), ("LPI", True), ("PSR", True)]))
def test_a_support_may_be_stored_along_any_axes(make_model, write_support, tmp_path, code, known):
    """From either end also where nobody knows how the model's own cases lay."""
    folder = make_model(InMemory(scan(2, 3)))
    if known:
        write(folder / "fold_0" / "validation", "case0.nii.gz", scan(2))
    support = write_support({"organ": 1}, scan(2, 4, 5), label_of=ordered)
    volume = scan(2, 4, 5, slices=9)
    expected = run(tmp_path, volume, "--support", support)
    store_along(support, code)
    np.testing.assert_array_equal(run(tmp_path, volume, "--support", support), expected)
    np.testing.assert_array_equal(run_along("RAI", tmp_path, volume, "--support", support), expected)


def test_unknown_axes_are_told(make_model, tmp_path, capsys):
    make_model(InMemory(scan(2, 3)))
    run(tmp_path, scan(2, 3))
    assert "not known along which axes the model's training cases were stored" in capsys.readouterr().err


@pytest.mark.parametrize("size", one_fast_in(2, [((48, 52),), ((64, 100),), ((90, 70),)]), ids=str)
def test_scans_smaller_and_larger_than_a_patch(make_model, tmp_path, size):
    folder = make_model(InMemory(scan(2, 4, 5), label_of=ordered))
    volume = np.full((3, *size), TISSUE, np.float32)
    for place, value in enumerate((2, 4, 5)):
        volume[:, 10:40, 16 * place : 16 * place + 12] = value
        volume[:, -6:, 16 * place : 16 * place + 12] = value
    expected = np.stack([volume[index] == value for index, value in enumerate((2, 4, 5))])
    np.testing.assert_array_equal(run(tmp_path, volume), expected)
    best = run(tmp_path, volume, "--match", "best")
    np.testing.assert_array_equal(best, volume > TISSUE)
    np.testing.assert_array_equal(stock(folder, tmp_path), best)


def test_a_failure_leaves_the_network_as_it_was(make_model, tmp_path):
    folder = make_model(InMemory(scan(2, 3)))
    predictor = FewShotPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    network = predictor.network
    data = torch.ones(1, 3, *SIZE)
    expected = predictor.predict_sliding_window_return_logits(data)
    data[:, 1] = float("nan")
    with pytest.raises(XModalError, match="NaN or infinite"):
        predictor.predict_sliding_window_return_logits(data)
    assert predictor.network is network
    data[:, 1] = 1
    assert torch.equal(predictor.predict_sliding_window_return_logits(data), expected)


def test_probabilities_are_of_all_labels_and_sum_to_one(make_model, tmp_path):
    make_model(InMemory(scan(2, 3)))
    segmentation = run(tmp_path, scan(3, 2), "--save_probabilities")
    probabilities = np.load(tmp_path / "out" / "anna.npz")["probabilities"]
    assert probabilities.shape == (3, *segmentation.shape)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-3)
    np.testing.assert_array_equal(probabilities.argmax(0), segmentation)


def test_regions_overlap(make_model, tmp_path):
    make_model(InMemory(scan(2, 3)), kind="regions")  # whole [1, 2], tumour 2
    volume = scan(2, 3, 4)
    np.testing.assert_array_equal(run(tmp_path, volume), np.where(volume == 2, 1, np.where(volume == 3, 2, 0)))


def with_crumbs(volume):
    """Small pieces of both organs elsewhere."""
    crumbs = volume.copy()
    crumbs[0, 50:53, 50:53], crumbs[-1, 55:58, 10:13] = 2, 3
    return crumbs


@pytest.mark.parametrize(
    "match, kind",
    one_fast_in(3, [("position", "labels"), ("position", "regions"), ("best", "labels"), ("best", "regions")]),
)
def test_the_largest_component_of_every_label(make_model, tmp_path, match, kind):
    make_model(InMemory(scan(2, 3)), kind=kind)
    volume = scan(2, 3)
    plain, crumbs = run(tmp_path, volume, "--match", match), run(tmp_path, with_crumbs(volume), "--match", match)
    assert not np.array_equal(plain, crumbs)
    kept = run(tmp_path, with_crumbs(volume), "--match", match, "--largest_component")
    np.testing.assert_array_equal(kept, plain)


@pytest.mark.parametrize(
    "flags", [["--support", "."], ["--match", "best"], ["--extents", "x"], ["--largest_component"]]
)
def test_other_models_do_not_know_these_flags(nnunet_folders, tmp_path, make_model, flags):
    folder = make_model(InMemory(scan(2, 3)))
    folder.rename(folder.with_name(f"nnUNetTrainerCSAD__{PLANS}__2d"))
    file = folder.with_name(f"nnUNetTrainerCSAD__{PLANS}__2d") / "fold_0" / "checkpoint_final.pth"
    torch.save({**torch.load(file, weights_only=False), "trainer_name": "nnUNetTrainerCSAD"}, file)
    with pytest.raises(XModalError, match=f"{flags[0]} does not apply to models of nnUNetTrainerCSAD"):
        run(tmp_path, scan(2, 3), "-tr", "nnUNetTrainerCSAD", *flags)
