"""From pairs of MR and ultrasound to transforms, through real commands."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.phantoms.mr_us import write_mr_us_dataset

pytestmark = pytest.mark.slow

DATASET, PLANS = "Dataset951_MrUs", "nnUNetRegistrationPlans"
IMAGE, STAGE2 = (f"nnUNetTrainerAttentionReg{stage}_1epochs_2its" for stage in ("", "Stage2"))
MODEL = ("-d", 951, "-p", PLANS, "-c", "3d_fullres", "-tr", IMAGE, "-device", "cpu")


@pytest.fixture(scope="module")
def trained(workspace):
    write_mr_us_dataset(workspace.raw / DATASET, n_train=5, n_test=2, seed=0, shape=(24, 40, 40), spacing=(3, 1.8, 1.8))
    workspace.plan(951, "-c", "3d_fullres", "-pl", "RegistrationPlanner", "--grid", 8, 24, 24)
    for trainer, folds in ((IMAGE, (0, 1)), (STAGE2, (0, 1))):
        for fold in folds:
            workspace.run("nnUNetv2_train", DATASET, "3d_fullres", fold, "-tr", trainer, "-p", PLANS, "-device", "cpu")
    return workspace


@pytest.fixture
def pairs(trained, tmp_path):
    """The test cases; the ultrasound has coordinates of its own, far away."""
    (tmp_path / "in").mkdir()
    for file in (trained.raw / DATASET / "imagesTs").iterdir():
        image = sitk.ReadImage(str(file))
        if "_0001" in file.name:
            image.SetOrigin((300.0, -200.0, 50.0))
            image = image[3:, :-2, :]
        sitk.WriteImage(image, str(tmp_path / "in" / file.name))
    return tmp_path


def test_transforms_of_two_stages_and_folds(trained, pairs):
    predict = ("nnUNetXModal_predict", "-i", pairs / "in", "-o", pairs / "out", *MODEL, "-f", 0, 1)
    said = trained.run(*predict, fails=True)
    assert "does not overlap with" in said and "--init geometry" in said and not (pairs / "out").exists()
    masks = trained.raw / DATASET / "labelsTs"
    trained.run(*predict, "--init", "geometry", "--stage2", STAGE2, "--roi", masks, "--refine", "mi")
    with open(pairs / "out" / "registration.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and {row["centre_from"] for row in rows} == {"mask"}
    steps = {row["steps"].removesuffix(" (no gain, left out)") for row in rows}
    assert steps == {f"{IMAGE} + {STAGE2} + mutual information"}
    for row in rows:
        files = [pairs / "in" / f"{row['case']}_{channel}.nii.gz" for channel in ("0000", "0001")]
        fixed, moving = (sitk.ReadImage(str(file)) for file in files)
        transform = sitk.ReadTransform(str(pairs / "out" / f"{row['case']}.tfm"))
        registered = sitk.ReadImage(str(pairs / "out" / f"{row['case']}_registered.nii.gz"))
        assert registered.GetPixelID() == moving.GetPixelID()
        again = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
        np.testing.assert_allclose(sitk.GetArrayFromImage(registered), sitk.GetArrayFromImage(again), atol=1)
    before = {file: file.stat().st_mtime_ns for file in (pairs / "out").glob("mrus*")}
    trained.run(*predict, "--init", "geometry", "--continue_prediction")
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_stock_prediction_names_the_command_before_it_reads_an_image(trained, pairs):
    said = trained.run("nnUNetv2_predict", "-i", pairs / "in", "-o", pairs / "stock", *MODEL, "-f", 0, fails=True)
    assert "use nnUNetXModal_predict with the same flags" in said.splitlines()[-1]
    assert not list((pairs / "stock").glob("*.nii.gz"))


def test_it_is_shared_as_a_zip(trained, pairs):
    archive, results = pairs / "model.zip", pairs / "elsewhere"
    results.mkdir()
    trained.run("nnUNetv2_export_model_to_zip", "-d", 951, "-o", archive, "-c", "3d_fullres", "-tr", IMAGE, "-p", PLANS,
                "-f", 0, "--not_strict")  # fmt: skip
    alone = {"nnUNet_results": str(results), "nnUNet_raw": None, "nnUNet_preprocessed": None}
    trained.run("nnUNetv2_install_pretrained_model_from_zip", archive, **alone)
    trained.run("nnUNetXModal_predict", "-i", pairs / "in", "-o", pairs / "out", *MODEL[2:], "-d", DATASET, "-f", 0,
                "--init", "geometry", **alone)  # fmt: skip
    assert len(list((pairs / "out").glob("*.tfm"))) == 2
