"""A model by its place: `-m`, the zip of `nnUNetXModal_export`, and `Model` in memory; all are one model."""

import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from resident_memory import resident

from nnunet_xmodal.commands import export, predict
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.model_zip import CARD, sha256_of
from nnunet_xmodal.model import Model

PAGE = Path(__file__).parents[3] / "documentation" / "how-to" / "from_python.md"
NAMES = ("T1", "T1c")
QUICK = ("--disable_tta", "-step_size", "1")
VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def voxels(image):
    return sitk.GetArrayFromImage(image)


def read(file):
    return sitk.ReadImage(str(file))


@pytest.fixture
def model(make_model, nnunet_folders):
    """Flags that name a model, and its folder."""
    flags = make_model(description="Phantoms\x1b[31m")
    (folder,) = (nnunet_folders / "nnUNet_results").glob("*/*")
    return flags, folder


@pytest.fixture
def by_place(monkeypatch, tmp_path, scans):
    """`(place, output, *flags)`: predicts without nnU-Net's variables; the label map of the first case."""
    scans()

    def run(place, output, *flags):
        with monkeypatch.context() as patched:
            for variable in VARIABLES:
                patched.delenv(variable, raising=False)
            words = ["-i", tmp_path / "in", "-o", tmp_path / output, "-m", place, "-device", "cpu", *flags]
            predict.main([*map(str, words), "-npp", "0", "-nps", "0", "--disable_progress_bar", *QUICK])
        return read(tmp_path / output / "anna.nii.gz")

    return run


@pytest.fixture
def exported(nnunet_folders, tmp_path):
    """`(*flags)` → a zip of the model."""

    def make(*flags):
        words = ["-m", nnunet_folders / "nnUNet_results", "-o", tmp_path / "model.zip", *flags]
        export.main([str(word) for word in words])
        return tmp_path / "model.zip"

    return make


def images_of(case, folder):
    return {name: read(folder / "in" / f"{case}_{number:04d}.nii.gz") for number, name in enumerate(NAMES)}


def test_folder_zip_and_memory_are_the_model_in_nnunets_folders(model, by_place, exported, run, tmp_path):
    flags, folder = model
    file = exported()
    run(flags, "named", *QUICK)
    expected = read(tmp_path / "named" / "anna.nii.gz")
    assert len(np.unique(voxels(expected))) > 1
    for number, place in enumerate((folder, folder.parents[1], file)):
        np.testing.assert_array_equal(voxels(by_place(place, f"out{number}")), voxels(expected))
    images = images_of("anna", tmp_path)
    with Model.load(file, device="cpu", mirroring=False, step_size=1.0) as loaded:
        assert loaded.channels == list(NAMES) and loaded.card["training"]["folds"] == [0]
        for _ in range(2):
            made = loaded(images)
        assert sorted(path.name for path in loaded._request.images.parent.iterdir()) == []
    np.testing.assert_array_equal(voxels(made), voxels(expected))
    for ours, theirs in ((made, images["T1"]), (made, expected)):
        assert ours.GetOrigin() == pytest.approx(theirs.GetOrigin(), abs=1e-4)
    assert made.GetDirection() == images["T1"].GetDirection()
    assert not list(tmp_path.glob(".tmp*"))


def test_the_pages_example_runs(make_model, exported, scans, tmp_path, monkeypatch, capsys, nnunet_folders):
    scans()
    make_model(channel_names={"0": "T2W", "1": "ADC"})
    exported()
    for source, name in (("in/anna_0000", "t2w"), ("in/anna_0001", "adc"), ("masks/anna", "prostate")):
        shutil.copy(tmp_path / f"{source}.nii.gz", tmp_path / f"anna_{name}.nii.gz")
    shutil.copy(tmp_path / "masks" / "anna.nii.gz", tmp_path / "anna_prostate_by_hand.nii.gz")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(examples) == 2
    names: dict = {}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    assert "['T2W', 'ADC'] {'background': 0," in capsys.readouterr().out
    assert read("anna_lesions.nii.gz").GetSize() == read("anna_t2w.nii.gz").GetSize() == names["lesions"].GetSize()


def test_a_mask_in_memory(model, run, scans, tmp_path):
    scans()
    run(model[0], "out", "--roi", tmp_path / "masks", *QUICK)
    with Model.load(model[1], device="cpu", mirroring=False, step_size=1.0) as loaded:
        made = loaded(images_of("anna", tmp_path), roi=read(tmp_path / "masks" / "anna.nii.gz"))
        np.testing.assert_array_equal(voxels(made), voxels(read(tmp_path / "out" / "anna.nii.gz")))
        for images, options, said in (
            ({"PET": made}, {}, "no channel PET: it reads T1, T1c"),
            ({}, {}, "there is no image"),
            ({"T1": made}, {}, "T1c"),
            ({"T1": "a file"}, {}, "no three-dimensional SimpleITK image"),
            (images_of("anna", tmp_path), {"mask": made}, "--mask does not apply"),
        ):
            with pytest.raises(XModalError, match=said):
                loaded(images, **options)


def test_the_second_stage_of_a_cascade_in_memory(make_model, scans, run, tmp_path, nnunet_folders, from_folder_and_zip):
    flags = make_model(cascade=True)
    scans(cases=["anna"])
    run(flags, "out", "-prev_stage_predictions", tmp_path / "masks", *QUICK)
    expected, previous = (voxels(read(tmp_path / name / "anna.nii.gz")) for name in ("out", "masks"))
    assert len(np.unique(expected)) > 1 and previous.any()
    (folder,) = (nnunet_folders / "nnUNet_results").glob("*/*")
    for model in from_folder_and_zip(folder):
        images = images_of("anna", tmp_path)
        made = model(images, previous_stage=read(tmp_path / "masks" / "anna.nii.gz"))
        np.testing.assert_array_equal(voxels(made), expected)
        with pytest.raises(XModalError, match="second stage of a cascade: predict 3d_lowres first"):
            model(images)


def test_a_first_stage_is_refused_by_a_model_that_has_none(model, scans, run, tmp_path):
    flags, folder = model
    scans(cases=["anna"])
    with pytest.raises(XModalError, match="is no second stage of a cascade .* leave -prev_stage_predictions out"):
        run(flags, "out", "-prev_stage_predictions", tmp_path / "masks", *QUICK)
    with pytest.raises(XModalError, match="is no second stage of a cascade"):
        Model.load(folder)(images_of("anna", tmp_path), previous_stage=read(tmp_path / "masks" / "anna.nii.gz"))
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_no_answer(model, scans, tmp_path, full_disk):
    scans(cases=["anna"])
    images = images_of("anna", tmp_path)
    loaded = Model.load(model[1])
    with full_disk(1000), pytest.raises(XModalError, match="case_0000.nii could .* the disk is full"):
        loaded(images)


def test_the_card(model, exported, capsys, tmp_path):
    flags = ["--licence", "CC-BY-4.0", "--intended_use", "research", "--contact", "a\x1b]0;b"]
    summary = {"metric_per_case": [{"metrics": {"1": {"Dice": dice, "TP": 3}}} for dice in (0.5, 0.7)]}
    (model[1] / "fold_0" / "validation").mkdir()
    (model[1] / "fold_0" / "validation" / "summary.json").write_text(json.dumps(summary))
    file = exported(*flags)
    assert f"SHA-256 {sha256_of(file)}" in capsys.readouterr().out
    predict.main(["-m", str(file), "--card"])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "Phantoms" in shown and "- **licence**: CC-BY-4.0" in shown
    assert "| edema | Dice | 2 | 60.0 ± 14.1 % |" in shown and "TP" not in shown
    with zipfile.ZipFile(file) as opened:
        card = json.loads(opened.read(next(name for name in opened.namelist() if name.endswith(CARD))))
        assert not [name for name in opened.namelist() if "summary" in name]
    assert set(card["files"]) == {"plans.json", "dataset.json", "fold_0/checkpoint_final.pth"}
    with pytest.raises(SystemExit):
        exported()
    assert "exists: give another name, or --overwrite" in capsys.readouterr().err
    (tmp_path / "summary.csv").write_text("model,label,metric,n,mean,sd\nA,edema,HD95,7,2.5,1\nB,edema,HD95,7,3,\n")
    with pytest.raises(SystemExit):
        exported("--overwrite", "--scores", tmp_path)
    assert "name one of A, B with --scored_as" in capsys.readouterr().err
    exported("--overwrite", "--scores", tmp_path, "--scored_as", "A")
    predict.main(["-m", str(file), "--card"])
    assert "| edema | HD95 | 7 | 2.5 ± 1 mm |" in capsys.readouterr().out


def test_a_model_by_the_number_of_its_dataset_is_packed_as_by_its_name(model, tmp_path):
    """nnU-Net finds models by the folder `DatasetNNN_Name`, which stock nnU-Net makes of the zip's."""
    flags, folder = model
    words = [str(word) for word in flags[: flags.index("-device")]] if "-device" in flags else list(map(str, flags))
    number = words.index("-d") + 1
    words[number] = str(int(folder.parent.name[7:10]))
    export.main([*words, "-o", str(tmp_path / "numbered.zip")])
    with zipfile.ZipFile(tmp_path / "numbered.zip") as opened:
        assert {name.split("/")[0] for name in opened.namelist()} == {folder.parent.name}


def test_which_model_is_meant(model, make_model, by_place, nnunet_folders, tmp_path, capsys):
    make_model(trainer="nnUNetTrainerMultiStream")
    results = nnunet_folders / "nnUNet_results"
    for place, flags, said in (
        (results, (), "holds 2 models that fit"),
        (results, ("-tr", "nnUNetTrainerCSAD"), "holds 2 models, none of which fits"),
        (model[1], ("-tr", "nnUNetTrainerCSAD"), "has the trainer nnUNetTrainer, not nnUNetTrainerCSAD"),
        (model[1], ("-f", "3"), "fold_3.* is missing: train that fold, or name the trained ones with -f (0)"),
        (tmp_path / "in", (), "holds no model (plans.json beside fold_0"),
        (tmp_path / "gone", (), "does not exist"),
    ):
        with pytest.raises(SystemExit):
            by_place(place, "out", *flags)
        error = capsys.readouterr().err
        assert all(part in error for part in said.split(".*")), error
        assert not (tmp_path / "out").exists()
    by_place(results, "out", "-tr", "nnUNetTrainerMultiStream", "-d", "999")


def test_a_strangers_zip_runs_nothing(model, by_place, tmp_path, capsys):
    touched = tmp_path / "touched"

    class Command:
        def __reduce__(self):
            return os.system, (f"touch '{touched}'",)

    checkpoint = model[1] / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    torch.save({**content, "x": Command()}, checkpoint)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as opened:
        for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
            opened.write(model[1] / name, f"D/m/{name}")
    with pytest.raises(SystemExit):
        by_place(tmp_path / "bad.zip", "out")
    assert "--trust" in capsys.readouterr().err
    with pytest.raises(XModalError, match="--trust"):
        Model.load(tmp_path / "bad.zip")
    with pytest.raises(SystemExit):
        export.main(["-m", str(model[1]), "-o", str(tmp_path / "model.zip")])
    assert not touched.exists() and not (tmp_path / "model.zip").exists()


def test_without_a_model_or_images(capsys):
    for words, said in (
        (["-i", "a", "-o", "b"], "no model is named"),
        (["-m", "a"], "-i is missing"),
        (["--card"], "-m"),
    ):
        with pytest.raises(SystemExit):
            predict.main(words)
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_fifty_calls_take_no_more_memory_than_ten(model, scans, tmp_path):
    scans()
    images = images_of("anna", tmp_path)

    with Model.load(model[1], device="cpu", mirroring=False, step_size=1.0) as loaded:
        for _ in range(10):
            loaded(images)
        before = resident()
        for _ in range(40):
            loaded(images)
        assert resident() - before < 8e6


def change_dataset_json(folder, **changes):
    file = folder / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_channels_of_one_name_are_told_apart(model):
    """Two phases of a CT: one image is not taken for both."""
    _, folder = model
    change_dataset_json(folder, channel_names={"0": "CT", "1": "CT"})
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(6, 32, 32)).astype(np.float32))
    with Model.load(folder, device="cpu") as loaded:
        assert loaded.channels == ["CT (0)", "CT (1)"]
        with pytest.raises(XModalError, match=r"CT \(1\)"):
            loaded({"CT (0)": image})
        assert loaded({"CT (0)": image, "CT (1)": image}).GetSize() == image.GetSize()


def test_a_model_of_pictures_is_refused_before_it_is_called(model):
    _, folder = model
    change_dataset_json(folder, file_ending=".png")
    with pytest.raises(XModalError, match=r"reads pictures \(\.png\), .* nnUNetXModal_predict -i"):
        Model.load(folder, device="cpu")
