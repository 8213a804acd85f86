"""CMFT, what it synthesises, and CMFF behind it, through real commands."""

import json
import shlex
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.slow

DATASET = "Dataset901_Phantom"
CMFT = "nnUNetTrainerCMFT_2epochs_3its"
CMFF = "nnUNetTrainerCMFF_1epochs_2its"
METRICS = {
    f"{what}_{metric}"
    for what in ("A_to_B", "B_to_A", "A_to_B_to_A", "B_to_A_to_B")
    for metric in ("MAE", "PSNR", "SSIM")
}


@pytest.fixture(scope="module")
def trained(workspace):
    for fold in (0, 1):
        workspace.run("nnUNetv2_train", DATASET, "2d", fold, "-tr", CMFT, "-device", "cpu")
    return workspace


@pytest.fixture
def one_stream(trained, tmp_path):
    """The new case without its second channel."""
    for file in (trained.raw / DATASET / "imagesTs").glob("*_0000.nii.gz"):
        shutil.copy(file, tmp_path)
    return tmp_path


def test_the_final_validation_measures_and_writes_every_case(trained):
    validation = trained.model(DATASET, CMFT, "2d") / "fold_0" / "validation"
    summary = json.loads((validation / "summary.json").read_text())
    assert set(summary["xmodal"]["directions"]) == METRICS and "data_range" in summary["xmodal"]
    splits = json.loads((trained.preprocessed / DATASET / "splits_final.json").read_text())
    images = {path.name for path in (validation / "images").iterdir()}
    assert len(summary["metric_per_case"]) == len(splits[0]["val"])
    for case in splits[0]["val"]:
        assert {f"{case}.png", f"{case}_0000.nii.gz", f"{case}_0001.nii.gz"} <= images
        made = sitk.ReadImage(str(validation / "images" / f"{case}_0001.nii.gz"))
        real = sitk.ReadImage(str(trained.raw / DATASET / "imagesTr" / f"{case}_0001.nii.gz"))
        assert made.GetSize() == real.GetSize() and made.GetSpacing() == real.GetSpacing()
    ((key, values),) = summary["mean"].items()
    assert key == "(0, 1)" and set(values) == METRICS and np.isfinite(list(values.values())).all()


def test_the_comparison_tells_its_metrics(trained, tmp_path):
    trained.run("nnUNetXModal_compare", "-d", 901, "-c", "2d", "-tr", CMFT, "-f", 0, 1, "-o", tmp_path)
    header, *rows = (tmp_path / "cases.csv").read_text().splitlines()
    assert METRICS <= set(header.split(",")) and len(rows) == 3 and ",image," in rows[0]


def test_a_missing_modality_is_synthesised(trained, one_stream):
    predict = ("nnUNetXModal_predict", "-i", one_stream, "-d", 901, "-c", "2d", "-tr", CMFT, "-device", "cpu",
               "-f", 0, 1, "-npp", 1)  # fmt: skip
    printed = trained.run(*predict, "-o", one_stream / "normalised")
    assert "on the normalised scale of the training" in printed
    trained.run(*predict, "-o", one_stream / "mapped", "--reference_intensities", 1000, 200)
    (file,) = (one_stream / "normalised").glob("*.nii.gz")
    assert file.name.endswith("_0001.nii.gz")
    normalised, mapped = (sitk.ReadImage(str(folder / file.name)) for folder in (file.parent, one_stream / "mapped"))
    given = sitk.ReadImage(str(next(one_stream.glob("*_0000.nii.gz"))))
    assert normalised.GetSize() == given.GetSize() and normalised.GetPixelID() == sitk.sitkFloat32
    values = sitk.GetArrayFromImage(normalised)
    np.testing.assert_allclose(sitk.GetArrayFromImage(mapped), values * 200 + 1000, rtol=1e-4)


def test_a_fold_continues_and_validates_again(trained):
    fold = trained.model(DATASET, CMFT, "2d") / "fold_1"
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    shutil.rmtree(fold / "validation")
    trained.run("nnUNetv2_train", DATASET, "2d", 1, "-tr", CMFT, "-device", "cpu", "--val")
    assert json.loads((fold / "validation" / "summary.json").read_text())["mean"] == summary["mean"]
    (fold / "checkpoint_best.pth").rename(fold / "checkpoint_latest.pth")
    (fold / "checkpoint_final.pth").unlink()
    trained.run("nnUNetv2_train", DATASET, "2d", 1, "-tr", CMFT, "-device", "cpu", "--c")
    assert (fold / "checkpoint_final.pth").is_file()


def test_stock_prediction_names_the_command_before_it_reads_an_image(trained, one_stream):
    output = one_stream / "stock"
    said = trained.run("nnUNetv2_predict", "-i", one_stream, "-o", output, "-d", 901, "-c", "2d", "-tr", CMFT,
                       "-f", 0, "-device", "cpu", fails=True)  # fmt: skip
    assert "use nnUNetXModal_predict with the same flags" in said.splitlines()[-1]
    assert not list(output.glob("*.nii.gz"))


def test_flags_of_other_models_are_refused(trained, one_stream):
    model = ("-d", 901, "-c", "2d", "-tr", CMFT, "-f", 0, "-device", "cpu")
    said = trained.run("nnUNetXModal_predict", "-i", one_stream, "-o", one_stream / "out", *model, "--attention_maps",
                       fails=True)  # fmt: skip
    assert "--attention_maps does not apply to models of" in said and not (one_stream / "out").exists()


def test_cmff_starts_from_each_folds_cmft(trained):
    """By the commands that cross-validation prints, which test_crossval.py sees it run itself."""
    weights = trained.model(DATASET, CMFT, "2d") / "fold_{fold}" / "checkpoint_final.pth"
    said = trained.run("nnUNetXModal_crossval", "-d", 901, "-c", "2d", "-tr", CMFF, "-f", 0, 1, "-device", "cpu",
                       "-pretrained_weights", weights, "--executor", "print")  # fmt: skip
    commands = [shlex.split(line) for line in said.splitlines() if line.startswith("nnUNetv2_train")]
    assert len(commands) == 2
    for fold, (command, *arguments) in enumerate(commands):
        assert str(weights).replace("{fold}", str(fold)) in arguments
        trained.run(command, *arguments)
    for fold in (0, 1):
        log = trained.log(DATASET, CMFF, "2d", fold)
        assert "The branches start from pretrained weights." in log
    weights = str(weights).replace("{fold}", "0")
    said = trained.run("nnUNetv2_train", DATASET, "2d", 2, "-tr", "nnUNetTrainerCMFFNoMask_1epochs_1its",
                       "-device", "cpu", "-pretrained_weights", weights)  # fmt: skip
    assert "The branches start from pretrained weights." in said


def test_it_is_shared_as_a_zip(trained, one_stream):
    archive = one_stream / "model.zip"
    trained.run("nnUNetv2_export_model_to_zip", "-d", 901, "-o", archive, "-c", "2d", "-tr", CMFT, "-f", 0,
                "--not_strict")  # fmt: skip
    results = one_stream / "elsewhere"
    results.mkdir()
    alone = {"nnUNet_results": str(results), "nnUNet_raw": None, "nnUNet_preprocessed": None}
    trained.run("nnUNetv2_install_pretrained_model_from_zip", archive, **alone)
    trained.run("nnUNetXModal_predict", "-i", one_stream, "-o", one_stream / "out", "-d", DATASET, "-c", "2d",
                "-tr", CMFT, "-f", 0, "-device", "cpu", "-npp", 0, **alone)  # fmt: skip
    assert len(list((one_stream / "out").glob("*_0001.nii.gz"))) == 1


def test_in_3d_and_without_pairs(workspace):
    trainer = "nnUNetTrainerCMFTUnpaired_1epochs_2its"
    workspace.run("nnUNetv2_train", DATASET, "3d_fullres", 0, "-tr", trainer, "-device", "cpu")
    weights = workspace.model(DATASET, trainer, "3d_fullres") / "fold_0" / "checkpoint_final.pth"
    said = workspace.run("nnUNetv2_train", DATASET, "3d_fullres", 0, "-tr", "nnUNetTrainerCMFF_1epochs_1its", "-device",
                         "cpu", "-pretrained_weights", weights)  # fmt: skip
    assert "The branches start from pretrained weights." in said
