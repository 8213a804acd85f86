"""What nnU-Net offers, once each, through its own commands with a short CSAD training."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.slow

DATASET = "Dataset901_Phantom"
CSAD = "nnUNetTrainerCSAD_2epochs_2its"
SCFF = "nnUNetTrainerSCFF_2epochs_2its"


def train(workspace, *arguments, configuration="2d", trainer=CSAD, fold=0, **options) -> str:
    return workspace.run(
        "nnUNetv2_train", DATASET, configuration, fold, "-tr", trainer, "-device", "cpu", *arguments, **options
    )


@pytest.fixture(scope="module")
def trained(workspace):
    train(workspace, "--npz")
    return workspace


@pytest.fixture(scope="module")
def predicted(trained):
    """Predictions of stock nnU-Net, mirroring included."""
    output = trained.root / "stock"
    images = trained.raw / DATASET / "imagesTs"
    trained.run("nnUNetv2_predict", "-i", images, "-o", output, "-d", 901, "-c", "2d", "-tr", CSAD, "-f", 0, "-device",
                "cpu", "-npp", 0, "-nps", 0, "--save_probabilities")  # fmt: skip
    return output


def array(path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_a_training_leaves_what_nnunet_users_expect(trained):
    fold = trained.model(DATASET, CSAD, "2d") / "fold_0"
    for name in ("checkpoint_final.pth", "checkpoint_best.pth", "progress.png", "attention.json", "debug.json"):
        assert (fold / name).is_file(), name
    assert not list(fold.glob(".tmp*")) and not (fold / "checkpoint_latest.pth").exists()
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == len(list((fold / "validation").glob("*.npz"))) == 2
    plans = json.loads((fold.parent / "plans.json").read_text())
    assert plans["xmodal"]["streams"] == [[0], [1]]


def test_the_distillation_is_logged_at_start_and_end_and_on_validation_cases(trained):
    report = json.loads((trained.model(DATASET, CSAD, "2d") / "fold_0" / "attention.json").read_text())
    for when in ("start", "end"):
        assert report[when]["alpha_L_CSAD"] > 0 and report[when]["gradient_ratio"] > 0
        levels = len(report[when]["effective_support"][0])
        assert np.shape(report[when]["effective_support"]) == (2, levels)
        assert 0 < np.min(report[when]["effective_support"]) <= np.max(report[when]["effective_support"]) <= 1
    assert len(report["validation"]["symmetric_kl_per_case"]) == 2


def test_validation_alone_repeats_the_summary(trained):
    summary = trained.model(DATASET, CSAD, "2d") / "fold_0" / "validation" / "summary.json"
    before = json.loads(summary.read_text())
    summary.unlink()
    train(trained, "--val", "--npz")
    assert json.loads(summary.read_text())["foreground_mean"] == before["foreground_mean"]


def test_our_prediction_is_stock_prediction_and_attention_maps_come_beside_it(trained, predicted):
    images, output = trained.raw / DATASET / "imagesTs", trained.root / "ours"
    trained.run("nnUNetXModal_predict", "-i", images, "-o", output, "-d", 901, "-c", "2d", "-tr", CSAD, "-f", 0,
                "-device", "cpu", "-npp", 1, "-nps", 1, "--save_probabilities", "--attention_maps")  # fmt: skip
    segmentation = next(predicted.glob("*.nii.gz"))
    case = segmentation.name.removesuffix(".nii.gz")
    assert (array(segmentation) == array(output / segmentation.name)).all()
    with np.load(predicted / f"{case}.npz") as stock, np.load(output / f"{case}.npz") as ours:
        assert (stock["probabilities"] == ours["probabilities"]).all()

    image = sitk.ReadImage(str(images / f"{case}_0000.nii.gz"))
    maps = sorted((output / "attention_maps").iterdir())
    plans = json.loads(trained.plans_file(DATASET).read_text())
    levels = plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["n_stages"]
    assert [m.name for m in maps] == [
        f"{case}_stream{stream}_level{level}.nii.gz" for stream in (0, 1) for level in range(1, levels + 1)
    ]
    for path in maps:
        attention = sitk.ReadImage(str(path))
        assert attention.GetSize() == image.GetSize()
        assert attention.GetOrigin() == pytest.approx(image.GetOrigin())
        assert attention.GetSpacing() == pytest.approx(image.GetSpacing())
        assert attention.GetDirection() == pytest.approx(image.GetDirection())
        values = sitk.GetArrayFromImage(attention)
        assert np.isfinite(values).all() and values.min() >= 0 and values.max() > 0


def test_a_fresh_process_predicts_what_a_fork_predicts(trained, predicted):
    """See command_server.py, in whose forks all other commands of these tests run."""
    images, output = trained.raw / DATASET / "imagesTs", trained.root / "fresh"
    command = [Path(sys.executable).with_name("nnUNetv2_predict"), "-i", images, "-o", output, "-d", 901, "-c", "2d",
               "-tr", CSAD, "-f", 0, "-device", "cpu", "-npp", 0, "-nps", 0, "--save_probabilities"]  # fmt: skip
    subprocess.run(list(map(str, command)), env=trained.environment, cwd=trained.root, check=True, capture_output=True)
    for file in predicted.glob("*.npz"):
        with np.load(file) as forked, np.load(output / file.name) as fresh:
            assert (forked["probabilities"] == fresh["probabilities"]).all()
        segmentation = file.with_suffix(".nii.gz").name
        assert (array(predicted / segmentation) == array(output / segmentation)).all()
    assert len(list(output.glob("*.npz"))) == 1


def test_a_zip_predicts_without_raw_and_preprocessed_data(trained, predicted):
    archive, elsewhere = trained.root / "model.zip", trained.root / "elsewhere"
    trained.run(
        "nnUNetv2_export_model_to_zip", "-d", 901, "-o", archive, "-c", "2d", "-tr", CSAD, "-f", 0, "--not_strict"
    )
    elsewhere.mkdir()
    alone = {"nnUNet_results": str(elsewhere), "nnUNet_raw": None, "nnUNet_preprocessed": None}
    trained.run("nnUNetv2_install_pretrained_model_from_zip", archive, **alone)
    images = shutil.copytree(trained.raw / DATASET / "imagesTs", trained.root / "images")
    output = trained.root / "from_zip"
    trained.run("nnUNetv2_predict", "-i", images, "-o", output, "-d", DATASET, "-c", "2d", "-tr", CSAD, "-f", 0,
                "-device", "cpu", "-npp", 0, "-nps", 0, **alone)  # fmt: skip
    for segmentation in predicted.glob("*.nii.gz"):
        assert (array(segmentation) == array(output / segmentation.name)).all()


def test_the_best_of_two_trainers_and_their_ensemble(trained):
    train(trained, "--npz", trainer=SCFF)
    trained.run("nnUNetv2_find_best_configuration", 901, "-c", "2d", "-tr", CSAD, SCFF, "-f", 0, "-np", 1)
    folder = trained.results / DATASET
    information = json.loads((folder / "inference_information.json").read_text())
    assert {CSAD, SCFF} <= {name.split("__")[0] for name in information["all_results"]}

    images, outputs = trained.raw / DATASET / "imagesTs", []
    for trainer in (CSAD, SCFF):
        outputs.append(trained.root / f"for_ensemble_{trainer}")
        trained.run("nnUNetv2_predict", "-i", images, "-o", outputs[-1], "-d", 901, "-c", "2d", "-tr", trainer, "-f", 0,
                    "-device", "cpu", "-npp", 0, "-nps", 0, "--save_probabilities")  # fmt: skip
    ensemble = trained.root / "ensemble"
    trained.run("nnUNetv2_ensemble", "-i", *outputs, "-o", ensemble, "-np", 1)
    assert len(list(ensemble.glob("*.nii.gz"))) == 1


def test_pretrained_weights_are_where_a_training_starts(trained):
    weights = trained.model(DATASET, CSAD, "2d") / "fold_0" / "checkpoint_final.pth"
    output = train(trained, "-pretrained_weights", weights, fold=1, trainer="nnUNetTrainerCSAD_1epochs_1its")
    assert "Loading pretrained weights" in output


@pytest.mark.parametrize("trainer", ["nnUNetTrainerStream1_1epochs_1its", "nnUNetTrainerCSADPaper_1epochs_1its"])
def test_3d_fullres(workspace, trainer):
    train(workspace, configuration="3d_fullres", trainer=trainer)
    assert (workspace.model(DATASET, trainer, "3d_fullres") / "fold_0" / "validation" / "summary.json").is_file()


def test_cascade(workspace):
    trainer = "nnUNetTrainerCSAD_1epochs_1its"
    train(workspace, configuration="3d_lowres", fold="all", trainer=trainer)  # predicts every case for the next stage
    train(workspace, configuration="3d_cascade_fullres", trainer=trainer)
    images, lowres, output = (
        workspace.raw / DATASET / "imagesTs",
        workspace.root / "lowres",
        workspace.root / "cascade",
    )
    common = ("-i", images, "-d", 901, "-tr", trainer, "-device", "cpu", "-npp", 0, "-nps", 0)
    message = workspace.run(
        "nnUNetXModal_predict", *common, "-c", "3d_cascade_fullres", "-f", 0, "-o", output, fails=True
    )
    assert "predict 3d_lowres first" in message and not output.exists()
    workspace.run("nnUNetXModal_predict", *common, "-c", "3d_lowres", "-f", "all", "-o", lowres)
    workspace.run("nnUNetXModal_predict", *common, "-c", "3d_cascade_fullres", "-f", 0, "-o", output,
                  "-prev_stage_predictions", lowres)  # fmt: skip
    assert len(list(output.glob("*.nii.gz"))) == 1
