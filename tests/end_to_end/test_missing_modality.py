"""A case without its second channel, through real commands: left out, and made by CMFT."""

import json
import shutil

import numpy as np
import pytest

pytestmark = pytest.mark.slow

DATASET = "Dataset901_Phantom"
CMFT = "nnUNetTrainerCMFT_1epochs_2its"
CSAD = "nnUNetTrainerCSADDropout_1epochs_2its"
CMFF = "nnUNetTrainerCMFFDropout_1epochs_2its"
PLAIN = "nnUNetTrainerMultiStream_1epochs_2its"


@pytest.fixture(scope="module")
def trained(workspace):
    for trainer in (CMFT, CSAD, PLAIN):
        workspace.run("nnUNetv2_train", DATASET, "2d", 0, "-tr", trainer, "-device", "cpu")
    weights = workspace.model(DATASET, CMFT, "2d") / "fold_0" / "checkpoint_final.pth"
    said = workspace.run("nnUNetv2_train", DATASET, "2d", 0, "-tr", CMFF, "-device", "cpu", "-pretrained_weights",
                         weights)  # fmt: skip
    assert "The branches start from pretrained weights." in said
    return workspace


@pytest.fixture(scope="module")
def images(trained, tmp_path_factory):
    """The new case twice: `whole`, and `lacking` without `_0001`."""
    folder = tmp_path_factory.mktemp("images")
    for file in (trained.raw / DATASET / "imagesTs").glob("*.nii.gz"):
        shutil.copy(file, folder / f"whole{file.name[-12:]}")
        if file.name.endswith("_0000.nii.gz"):
            shutil.copy(file, folder / "lacking_0000.nii.gz")
    return folder


def predict(trained, images, output, trainer, *flags, processes=0, fails=False):
    return trained.run("nnUNetXModal_predict", "-i", images, "-o", output, "-d", 901, "-c", "2d", "-tr", trainer, "-f",
                       0, "-device", "cpu", "-npp", processes, "-nps", processes, "--save_probabilities", *flags,
                       fails=fails)  # fmt: skip


def probabilities(folder, case):
    with np.load(folder / f"{case}.npz") as file:
        return file["probabilities"]


@pytest.mark.parametrize("trainer", [CSAD, CMFF])
def test_a_stream_is_left_out(trained, images, tmp_path, trainer):
    said = predict(trained, images, tmp_path / "one", trainer, "--allow_missing")
    assert "lacking has no ADC: predicted without ADC." in said
    told = json.loads((tmp_path / "one" / "missing.json").read_text())
    assert told["lacking"] == {"missing_channels": ["ADC"], "absent_streams": [["ADC"]], "imputed_by": None}
    assert told["whole"]["missing_channels"] == []
    if trainer == CSAD:
        predict(trained, images, tmp_path / "pools", trainer, "--allow_missing", processes=1)
        for case in ("lacking", "whole"):
            assert np.array_equal(probabilities(tmp_path / "one", case), probabilities(tmp_path / "pools", case))


def test_a_complete_case_is_predicted_as_by_nnunet(trained, images, tmp_path):
    predict(trained, images, tmp_path / "ours", CSAD, "--allow_missing")
    (tmp_path / "in").mkdir()
    for file in images.glob("whole*"):
        shutil.copy(file, tmp_path / "in")
    trained.run("nnUNetv2_predict", "-i", tmp_path / "in", "-o", tmp_path / "stock", "-d", 901, "-c", "2d", "-tr", CSAD,
                "-f", 0, "-device", "cpu", "-npp", 0, "-nps", 0, "--save_probabilities")  # fmt: skip
    assert np.array_equal(probabilities(tmp_path / "ours", "whole"), probabilities(tmp_path / "stock", "whole"))


def test_a_stream_is_made_for_a_model_that_needs_it(trained, images, tmp_path):
    model = trained.model(DATASET, CMFT, "2d")
    said = predict(trained, images, tmp_path / "made", PLAIN, "--impute", model)
    assert f"lacking has no ADC: made of T2W by {CMFT}." in said
    told = json.loads((tmp_path / "made" / "missing.json").read_text())["lacking"]["imputed_by"]
    assert told == {"model": str(model), "trainer": CMFT, "folds": [0], "made_of": ["T2W"]}
    assert sorted(path.name for path in (tmp_path / "made").glob("*.nii.gz")) == ["lacking.nii.gz", "whole.nii.gz"]

    written = (tmp_path / "made" / "lacking.nii.gz").stat().st_mtime_ns
    (tmp_path / "made" / "whole.nii.gz").unlink()
    predict(trained, images, tmp_path / "made", PLAIN, "--impute", model, "--continue_prediction")
    assert (tmp_path / "made" / "lacking.nii.gz").stat().st_mtime_ns == written
    assert (tmp_path / "made" / "whole.nii.gz").is_file()
    assert json.loads((tmp_path / "made" / "missing.json").read_text())["lacking"]["imputed_by"] == told


def test_a_model_that_needs_all_streams_says_so(trained, images, tmp_path):
    said = predict(trained, images, tmp_path / "out", PLAIN, "--allow_missing", fails=True)
    assert f"the model of {PLAIN} was never trained without a stream" in said.splitlines()[-1]
    said = predict(trained, images, tmp_path / "out", PLAIN, fails=True)
    assert "lacking_0001.nii.gz is missing" in said
    said = predict(trained, images, tmp_path / "out", CMFT, "--allow_missing", fails=True)
    assert f"--allow_missing does not apply to models of {CMFT}" in said
    assert not (tmp_path / "out").exists()
