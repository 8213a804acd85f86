"""Predictions are whole files: a full disk is a sentence, and what was cut off is predicted again."""

import json
import os
import pickle
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.ensembling.ensemble import merge_files
from nnunetv2.inference import export_prediction as theirs
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.complete import is_complete
from nnunet_xmodal.predict import predict
from nnunet_xmodal.prediction import finished
from nnunet_xmodal.prediction.export import export_prediction
from nnunet_xmodal.prediction.turning import TurningPlans

DATASET = "Dataset999_Tiny"
WRITTEN = (".nii.gz", ".npz", ".pkl")


@pytest.fixture
def model(nnunet_folders, make_plans, make_dataset_json):
    """A stock model of random weights: flags, and what `export_prediction` takes."""
    plans = make_plans(3)
    plans["image_reader_writer"] = "SimpleITKIO"
    (name,) = plans["configurations"]
    dataset_json, manager = make_dataset_json(), PlansManager(plans)
    heads = manager.get_label_manager(dataset_json).num_segmentation_heads
    configuration = manager.get_configuration(name)
    torch.manual_seed(0)
    network = nnUNetTrainer.build_network_architecture(manager, configuration, 2, heads, False)
    folder = nnunet_folders / "nnUNet_results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{name}"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset_json))
    checkpoint = {"network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer"}
    arguments = {"plans": plans, "configuration": name, "fold": 0, "dataset_json": dataset_json}
    torch.save({**checkpoint, "init_args": arguments}, folder / "fold_0" / "checkpoint_final.pth")
    flags = ["-d", DATASET, "-c", name, "-f", "0", "-device", "cpu", "--disable_progress_bar", "--disable_tta"]
    return flags, (configuration, manager, dataset_json)


@pytest.fixture
def run(model, tmp_path):
    """Predicts two cases of noise, a and b, in this process; returns what was printed."""
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(("a_0000", "a_0001", "b_0000", "b_0001")):
        noise = np.random.default_rng(seed).normal(100, 30, (16, 24, 24)).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(tmp_path / "in" / f"{name}.nii.gz"))

    def run(*words):
        flags = [*model[0], "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-npp", "0", "-nps", "0", *words]
        printed = StringIO()
        with redirect_stdout(printed):
            predict(request_of(parser().parse_args(flags)))
        return printed.getvalue()

    return run


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_what_was_cut_off_is_predicted_again_and_nothing_else(run, tmp_path):
    run("--save_probabilities")
    out, before = tmp_path / "out", content(tmp_path / "out")
    assert "2 cases" not in run("--save_probabilities", "--continue_prediction")
    for ending, left in zip(WRITTEN, (200, -1, 0)):
        (out / f"b{ending}").write_bytes(before[f"b{ending}"][:left])
        times = {file: file.stat().st_mtime_ns for file in out.glob("a.*")}
        printed = run("--save_probabilities", "--continue_prediction")
        assert f"{out / f'b{ending}'} is cut off or damaged: predicted again" in printed
        assert times == {file: file.stat().st_mtime_ns for file in out.glob("a.*")}
        now = content(out)
        for name in ("a.nii.gz", "b.nii.gz", "a.pkl", "b.pkl"):
            assert now[name] == before[name]
        np.testing.assert_array_equal(*(_probabilities(of, tmp_path) for of in (now, before)))


def _probabilities(files, folder):
    (folder / "p.npz").write_bytes(files["b.npz"])
    return np.load(folder / "p.npz")["probabilities"]


def test_files_that_exist_are_read_to_their_end(tmp_path, capsys):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("{")
    files = {"a": ["a.json"], "b": ["a.json", "b.json"], "c": ["a.json", "c.json"]}
    left = finished.remaining_cases(files, lambda case: [tmp_path / name for name in files[case]])
    assert left == ["b", "c"]
    assert capsys.readouterr().out == f"{tmp_path / 'b.json'} is cut off or damaged: predicted again.\n"


def test_records_beside_predictions_on_a_full_disk(run, full_disk, tmp_path):
    with full_disk(100), pytest.raises(XModalError, match=r"\.json could not be written because the disk is full"):
        run()
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_what_is_exported_is_what_nnunet_exports(model, tmp_path, full_disk):
    flags, described = model
    sides = (16, 24, 24)
    logits = np.random.default_rng(0).normal(
        size=(described[1].get_label_manager(described[2]).num_segmentation_heads, *sides)
    )
    geometry = {"spacing": (1.0, 1.0, 1.0), "origin": (0.0, 0.0, 0.0), "direction": np.eye(3).ravel().tolist()}
    properties = {
        "sitk_stuff": geometry,
        "spacing": [1.0, 1.0, 1.0],
        "shape_before_cropping": sides,
        "shape_after_cropping_and_before_resampling": sides,
        "bbox_used_for_cropping": [[0, side] for side in sides],
    }
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    ours.mkdir(), stock.mkdir()
    logits = torch.from_numpy(logits.astype(np.float32))
    export_prediction(logits, properties, *described, str(ours / "a"), True)
    theirs.export_prediction_from_logits(logits, properties, *described, str(stock / "a"), True)
    assert set(content(ours)) == set(content(stock)) == {f"a{ending}" for ending in WRITTEN}
    for name in ("a.nii.gz", "a.pkl"):
        assert content(ours)[name] == content(stock)[name]
    np.testing.assert_array_equal(*(np.load(folder / "a.npz")["probabilities"] for folder in (ours, stock)))
    before = content(ours)
    with full_disk(1000), pytest.raises(XModalError, match=r"a\.npz could not be written because the disk is full"):
        export_prediction(logits * 2, properties, *described, str(ours / "a"), True)
    with full_disk(300), pytest.raises(XModalError, match=r"a\.nii\.gz could not be written because the disk is full"):
        export_prediction(logits * -1, properties, *described, str(ours / "a"))
    assert content(ours) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_background(model, tmp_path, value):
    _, (configuration, manager, dataset_json) = model
    logits = torch.zeros(manager.get_label_manager(dataset_json).num_segmentation_heads, 4, 4, 4)
    logits[0, 1, 2, 3] = value
    with pytest.raises(XModalError, match="the network returned NaN or infinity for a: nothing is written"):
        export_prediction(logits, {}, configuration, manager, dataset_json, str(tmp_path / "a"))
    assert not list(tmp_path.glob("a*"))


def test_probabilities_lie_along_the_axes_of_the_case(model, tmp_path):
    """Whoever averages them with those of a model that turns nothing finds the same voxels in the same places."""
    _, (configuration, manager, dataset_json) = model
    rng, sides = np.random.default_rng(0), (10, 16, 24)  # z, y, x
    case = sitk.GetImageFromArray(rng.normal(size=sides).astype(np.float32))
    case.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation("PIR"))
    sitk.WriteImage(case, str(tmp_path / "case.nii.gz"))
    turning = TurningPlans(manager.plans, "LPS")
    _, properties = turning.image_reader_writer_class().read_images([str(tmp_path / "case.nii.gz")])
    shape = sitk.GetArrayViewFromImage(sitk.DICOMOrient(case, "LPS")).shape
    assert shape != sides
    properties |= {
        "shape_before_cropping": shape,
        "shape_after_cropping_and_before_resampling": shape,
        "bbox_used_for_cropping": [[0, side] for side in shape],
    }
    heads = manager.get_label_manager(dataset_json).num_segmentation_heads
    logits = torch.from_numpy(rng.normal(size=(heads, *shape)).astype(np.float32))
    export_prediction(logits, properties, configuration, turning, dataset_json, str(tmp_path / "a"), True)

    probabilities = np.load(tmp_path / "a.npz")["probabilities"]
    with open(tmp_path / "a.pkl", "rb") as stream:
        noted = pickle.load(stream)
    _, as_read = manager.image_reader_writer_class().read_images([str(tmp_path / "case.nii.gz")])
    assert probabilities.shape == (heads, *sides)
    assert noted["sitk_stuff"] == as_read["sitk_stuff"] and noted["spacing"] == as_read["spacing"]
    segmentation = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(probabilities.argmax(0), sitk.GetArrayViewFromImage(segmentation))
    # as nnUNetv2_ensemble writes
    merge_files(
        [str(tmp_path / "a.npz")],
        str(tmp_path / "merged"),
        ".nii.gz",
        manager.image_reader_writer_class(),
        manager.get_label_manager(dataset_json),
    )
    assert (tmp_path / "merged.nii.gz").read_bytes() == (tmp_path / "a.nii.gz").read_bytes()


@pytest.mark.slow
def test_processes_that_write_rename_as_well(run, tmp_path):
    """nnU-Net's own writer would write into the file that has two names here."""
    run("-step_size", "1")
    (tmp_path / "out" / "a.nii.gz").write_bytes(b"earlier")
    os.link(tmp_path / "out" / "a.nii.gz", tmp_path / "second_name")
    run("-npp", "1", "-nps", "1")
    assert (tmp_path / "second_name").read_bytes() == b"earlier"
    assert is_complete(tmp_path / "out" / "a.nii.gz")
