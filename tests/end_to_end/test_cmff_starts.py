"""What CMFF can start from and be compared with, through real commands: stock models, the paper's, two averaged."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.slow

DATASET = "Dataset901_Phantom"
STOCK = "nnUNetTrainer_1epochs_1its"


def checkpoint(workspace, trainer, configuration, plans="nnUNetPlans"):
    return workspace.model(DATASET, trainer, configuration, plans) / "fold_0" / "checkpoint_final.pth"


def test_a_stock_2d_model_starts_cmff_in_3d(workspace, tmp_path):
    workspace.run("nnUNetv2_train", DATASET, "2d", 0, "-tr", STOCK, "-device", "cpu")
    start = tmp_path / "start.pth"
    said = workspace.run("nnUNetXModal_inflate", "-i", checkpoint(workspace, STOCK, "2d"), "-o", start, "-d", 901,
                         "-c", "3d_fullres", "--new_configuration", "3d_inflated")  # fmt: skip
    assert "Branch B (ADC) starts from" in said and "2D, by its channels ADC." in said
    entry = json.loads(workspace.plans_file(DATASET).read_text())["configurations"]["3d_inflated"]
    assert entry["inherits_from"] == "3d_fullres"
    train = ("nnUNetv2_train", DATASET, "3d_inflated", 0, "-tr", "nnUNetTrainerCMFF_1epochs_1its", "-device", "cpu")
    said = workspace.run(*train, "-pretrained_weights", start)
    assert "The branches start from pretrained weights." in said
    said = workspace.run("nnUNetXModal_inflate", "-i", start.with_name("none.pth"), "-o", start, "-d", 901, "-c", "2d",
                         "--overwrite", fails=True)  # fmt: skip
    assert said.splitlines()[-1].startswith("error: ") and "none.pth is missing" in said


def test_the_papers_training_on_plans_of_the_users_size(workspace):
    plans = "nnUNetPatch16x32x32Width4Plans"
    size = ("-c", "3d_fullres", "--no_pp", "--base_width", 4, "--patch")
    workspace.plan(901, *size, 16, 32, 32)
    made = json.loads(workspace.plans_file(DATASET, plans).read_text())["configurations"]["3d_fullres"]
    assert made["patch_size"] == [16, 32, 32] and made["data_identifier"] == "nnUNetPlans_3d_fullres"
    transition, fusion = (f"nnUNetTrainerCM{letter}Paper_1epochs_1its" for letter in ("FT", "FF"))
    train = ("nnUNetv2_train", DATASET, "3d_fullres", 0, "-device", "cpu", "-p", plans)
    said = workspace.run(*train, "-tr", transition)
    assert "the paper 128×128×128 and 16" in said
    said = workspace.run(
        *train, "-tr", fusion, "-pretrained_weights", checkpoint(workspace, transition, "3d_fullres", plans)
    )
    assert "The branches start from pretrained weights." in said
    said = workspace.run("nnUNetXModal_plan_and_preprocess", "-d", 901, "-npfp", 1, *size, 16, 31, 33, fails=True)
    assert "error: --patch 16 31 33 cannot be halved as often" in said


def test_s_a_and_s_b_are_averaged_as_two_models(workspace, tmp_path):
    folders = []
    for stream in "AB":
        trainer = f"nnUNetTrainerCMFFStream{stream}_1epochs_1its"
        workspace.run("nnUNetv2_train", DATASET, "2d", 0, "-tr", trainer, "-device", "cpu")
        folders.append(tmp_path / stream)
        workspace.run("nnUNetv2_predict", "-i", workspace.raw / DATASET / "imagesTs", "-o", folders[-1], "-d", 901,
                      "-c", "2d", "-tr", trainer, "-f", 0, "-device", "cpu", "--save_probabilities", "-npp", 0, "-nps",
                      0)  # fmt: skip
    both = tmp_path / "A+B"
    workspace.run("nnUNetv2_ensemble", "-i", *folders, "-o", both, "--save_npz", "-np", 1)
    (file,) = both.glob("*.nii.gz")
    a, b, mean = (
        np.load(folder / file.name.replace(".nii.gz", ".npz"))["probabilities"] for folder in (*folders, both)
    )
    np.testing.assert_allclose(mean, (a + b) / 2, atol=1e-6)
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) == mean.argmax(0)).all()
