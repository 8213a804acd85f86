"""What travels in a zip: all that a prediction reads of a model's folder, and what the card says of it."""

import json
import re
import zipfile
from dataclasses import fields

import numpy as np
import pytest
import SimpleITK as sitk
from organ_scans import ORGAN, image_of, voxels, write

from nnunet_xmodal.commands import export, predict
from nnunet_xmodal.datasets.stored_axes import axes_of_model
from nnunet_xmodal.files.model_files import read_model_dataset_json, read_model_plans
from nnunet_xmodal.files.model_temperature import not_fitted_on, write_temperature
from nnunet_xmodal.files.model_zip import BESIDE_FOLDS, CARD, unpack_model
from nnunet_xmodal.model import Model
from nnunet_xmodal.tasks.segmentation.options import SegmentationOptions

QUICK = ("-device", "cpu", "-npp", "0", "-nps", "0", "--disable_progress_bar", "--disable_tta", "-step_size", "1")
ANY_STREAMS = "nnUNetTrainerMultiStreamDropout"


@pytest.fixture
def folder_of(make_model, nnunet_folders):
    """`(**what make_model takes)` → the model's folder."""

    def make(**settings):
        make_model(**settings)
        (folder,) = (nnunet_folders / "nnUNet_results").glob("*/*")
        return folder

    return make


@pytest.fixture
def exported(tmp_path):
    """`(folder)` → its zip."""

    def make(folder):
        export.main(["-m", str(folder), "-o", str(tmp_path / "model.zip")])
        return tmp_path / "model.zip"

    return make


def card_of(file):
    with zipfile.ZipFile(file) as opened:
        return json.loads(opened.read(next(name for name in opened.namelist() if name.endswith(CARD))))


def written(folder):
    """Files of a prediction by their names, with the voxels of images."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {name: voxels(file).tolist() if name.endswith(".nii.gz") else None for name, file in files.items()}


def test_a_zip_has_its_models_temperature(folder_of, exported, scans, tmp_path):
    folder = folder_of()
    write_temperature(1e6, {}, folder)
    scans(cases=["anna"])
    words = ("-m", exported(folder), "-i", tmp_path / "in", "-o", tmp_path / "out", "--temperature")
    predict.main([str(word) for word in (*words, "--save_probabilities", *QUICK)])
    np.testing.assert_allclose(np.load(tmp_path / "out" / "anna.npz")["probabilities"], 1 / 3, atol=1e-3)


@pytest.mark.slow
def test_a_zip_predicts_with_every_option_what_its_folder_does(folder_of, exported, scans, tmp_path):
    folder = folder_of(trainer=ANY_STREAMS)
    write_temperature(2.5, {}, folder)
    scans(cases=["anna"])
    calls = (
        {"temperature": [], "uncertainty": [], "attention_maps": []},
        {"allow_missing": [], "roi": [tmp_path / "masks"], "roi_label": [1], "margin": [10]},
    )
    given = {name for call in calls for name in call}
    assert given | {"impute"} == {option.name for option in fields(SegmentationOptions)}  # which names another model
    file = exported(folder)
    for number, call in enumerate(calls):
        flags = ["--save_probabilities", *(word for name, words in call.items() for word in (f"--{name}", *words))]
        outputs = [tmp_path / f"{name}{number}" for name in ("folder", "zip")]
        for place, output in zip((folder, file), outputs):
            predict.main([str(word) for word in ("-m", place, "-i", tmp_path / "in", "-o", output, *QUICK, *flags)])
        ours, theirs = map(written, outputs)
        assert ours == theirs and len(ours) > 2
        ours, theirs = (np.load(output / "anna.npz")["probabilities"] for output in outputs)
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_packed_is_what_is_unpacked(folder_of, exported, tmp_path):
    folder = folder_of()
    write_temperature(2.5, {}, folder)
    (folder / "dataset_fingerprint.json").write_text("{}")
    file, place = exported(folder), tmp_path / "unpacked"
    place.mkdir()
    unpack_model(file, place, "checkpoint_final.pth")
    unpacked = {path.name for path in place.rglob("*") if path.is_file()}
    assert unpacked == {*BESIDE_FOLDS, CARD, "checkpoint_final.pth"}
    with zipfile.ZipFile(file) as opened:
        assert {name.rpartition("/")[2] for name in opened.namelist()} - unpacked == {"MODEL_CARD.md"}


def test_a_damaged_temperature_is_not_packed(folder_of, exported, tmp_path, capsys):
    folder = folder_of()
    (folder / "temperature.json").write_text('{"temperature": -1}')
    with pytest.raises(SystemExit):
        exported(folder)
    assert 'temperature.json holds no "temperature" above 0' in capsys.readouterr().err
    assert not (tmp_path / "model.zip").exists()


def test_a_temperature_of_other_folds_is_not_packed_and_told_of(folder_of, exported, scans, tmp_path, capsys):
    folder = folder_of()
    write_temperature(2.5, {"folds": ["0", "1"]}, folder)
    assert not_fitted_on(folder, [1, "all"]) == ["all"] and not_fitted_on(folder, ["0", 1]) == []
    write_temperature(2.5, {"folds": ["3"]}, folder)
    with zipfile.ZipFile(exported(folder)) as opened:
        assert not any(name.endswith("temperature.json") for name in opened.namelist())
    assert "temperature.json was not fitted on the folds 0, and is left out" in "".join(capsys.readouterr())
    scans(cases=["anna"])
    words = ("-m", folder, "-i", tmp_path / "in", "-o", tmp_path / "out", "--temperature", *QUICK)
    predict.main([str(word) for word in words])
    assert "was fitted on the folds 3, not on 0: probabilities" in "".join(capsys.readouterr())


def test_the_card_says_that_a_model_is_calibrated(folder_of, exported, capsys):
    folder = folder_of()
    write_temperature(1.23456, {}, folder)
    predict.main(["-m", str(exported(folder)), "--card"])
    assert "- calibration: temperature 1.235, which nnUNetXModal_predict --temperature" in capsys.readouterr().out
    (folder / "temperature.json").unlink()
    (folder.parents[2] / "model.zip").unlink()
    predict.main(["-m", str(exported(folder)), "--card"])
    assert "calibration" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings, streams",
    [
        ({"channel_names": {"0": "T2W", "1": "ADC"}}, "T2W+ADC as one input"),
        ({"trainer": "nnUNetTrainerMultiStream", "channel_names": {"0": "T2W", "1": "ADC"}}, "T2W | ADC"),
        ({"trainer": "nnUNetTrainerMultiStream", "streams": ((0, 2), (1,))}, "T1+T2 | T1c"),
    ],
    ids=["stock", "a stream for each channel", "streams of several channels"],
)
def test_the_card_names_the_channels_of_streams(folder_of, exported, capsys, settings, streams):
    file = exported(folder_of(**settings))
    assert card_of(file)["training"]["streams"] == streams
    predict.main(["-m", str(file), "--card"])
    assert f"- streams: {streams}\n" in capsys.readouterr().out


def test_axes_that_validations_alone_tell_travel_in_the_plans(folder_of, exported, tmp_path):
    """Few-shot models turn cases to them; validations stay at home."""
    folder = folder_of()
    write(sitk.DICOMOrient(image_of(ORGAN), "SPL"), folder, "fold_0/validation", "anna.nii.gz")
    told = axes_of_model(folder, read_model_plans(folder), read_model_dataset_json(folder))
    assert told == "SPL"
    before = (folder / "plans.json").read_bytes()
    with zipfile.ZipFile(exported(folder)) as opened:
        opened.extractall(tmp_path / "unpacked")
    (place,) = (tmp_path / "unpacked").glob("*/*")
    assert not list(place.glob("fold_0/validation")) and (folder / "plans.json").read_bytes() == before
    assert axes_of_model(place, read_model_plans(place), read_model_dataset_json(place)) == told
    assert re.fullmatch(r"[0-9a-f]{64}", card_of(tmp_path / "model.zip")["files"]["plans.json"])
    with Model.load(tmp_path / "model.zip", device="cpu") as model:  # whose sums are those of what was packed
        assert model.card is not None
