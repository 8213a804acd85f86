"""Mistakes of users, through our commands and through nnU-Net's wherever they reach our trainers and networks."""

import json
import re
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch

pytestmark = pytest.mark.slow

DATASET = "Dataset901_Phantom"
CSAD = "nnUNetTrainerCSAD_1epochs_1its"


def last_sentence(output: str) -> str:
    """The sentence that our commands print or that ends a traceback; loader processes may complain after it."""
    return [line for line in output.splitlines() if line.startswith("error: ") or "XModalError: " in line][-1]


@pytest.fixture
def copy(workspace, tmp_path):
    """A workspace of one's own to spoil: raw and preprocessed data are copied, results are empty."""
    space = type(workspace)(tmp_path)
    for folder in ("raw", "preprocessed"):
        shutil.copytree(workspace.root / folder / DATASET, tmp_path / folder / DATASET)
    return space


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def plan_fails(space, *arguments, **environment) -> str:
    before = sorted(space.preprocessed.rglob("*"))
    output = space.run("nnUNetXModal_plan_and_preprocess", "-d", 901, "-npfp", 1, "-np", 1, *arguments, fails=True,
                       **environment)  # fmt: skip
    assert "Traceback" not in output
    assert sorted(space.preprocessed.rglob("*")) == before
    return last_sentence(output)


def test_planning(copy):
    streams = {
        ("T2W", "DWI"): "unknown channel 'DWI'; known are 0 (T2W), 1 (ADC)",
        ("T2W+ADC", "ADC"): "channel 1 (ADC) twice",
        ("T2W",): "channel 1 (ADC) in none of them",
    }
    for words, sentence in streams.items():
        assert sentence in plan_fails(copy, "--streams", *words)
    assert "there is no planner NoPlanner; known are XModalPlanner, XModalResEncPlannerM" in plan_fails(
        copy, "-pl", "NoPlanner"
    )
    assert "nnUNet_raw is not set" in plan_fails(copy, nnUNet_raw=None)
    image = next((copy.raw / DATASET / "imagesTr").glob("*_0000.nii.gz"))
    image.unlink()
    assert f"{image.name} is missing" in plan_fails(copy)


def train_fails(space, trainer=CSAD, configuration="2d", *arguments, **environment) -> str:
    output = space.run("nnUNetv2_train", DATASET, configuration, 0, "-tr", trainer, "-device", "cpu", *arguments,
                       fails=True, **environment)  # fmt: skip
    assert not list(space.results.rglob("checkpoint_final.pth")) and not list(space.results.rglob("attention.json"))
    return last_sentence(output)


def test_stock_training_with_impossible_streams(copy):
    edit_json(copy.preprocessed / DATASET / "dataset.json", lambda d: d.update(xmodal={"streams": [["T2W"]]}))
    assert "channel 1 (ADC) in none of them" in train_fails(copy)


def test_stock_training_on_one_channel(copy):
    edit_json(copy.preprocessed / DATASET / "dataset.json", lambda d: d.update(channel_names={"0": "T2W"}))
    assert "names 1 channels (T2W) but the plans were made for 2" in train_fails(copy)
    edit_json(copy.plans_file(DATASET), lambda p: p["foreground_intensity_properties_per_channel"].pop("1"))
    assert f"{CSAD} fuses two or more streams but the plans hold one" in train_fails(copy)


def test_stock_training_with_more_levels_than_the_patch_allows(copy):
    def too_deep(plans):
        arguments = plans["configurations"]["2d"]["architecture"]["arch_kwargs"]
        for name in ("strides", "kernel_sizes", "features_per_stage", "n_conv_per_stage", "n_conv_per_stage_decoder"):
            arguments[name] = [*arguments[name], *arguments[name][-1:] * 4]
        arguments["n_stages"] += 4

    edit_json(copy.plans_file(DATASET), too_deep)
    assert "take fewer levels or a patch size divisible" in train_fails(copy)


def test_stock_training_without_a_results_folder(copy):
    assert "nnUNet_results is not set" in train_fails(copy, nnUNet_results=None)


def test_stock_training_on_a_label_that_dataset_json_does_not_name(copy):
    edit_json(copy.preprocessed / DATASET / "dataset.json", lambda d: d.update(labels={"background": 0, "gland": 2}))
    assert "holds the value 1, which dataset.json does not name" in train_fails(copy)


def test_stock_training_on_nan(copy):
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    folder = str(copy.preprocessed / DATASET / "nnUNetPlans_2d")
    dataset_class = infer_dataset_class(folder)
    dataset = dataset_class(folder)
    for case in list(dataset.identifiers):
        data, segmentation, _, properties = dataset.load_case(case)
        spoilt, segmentation = np.full_like(data[:], np.nan), np.array(segmentation[:])
        for file in (copy.preprocessed / DATASET / "nnUNetPlans_2d").glob(f"{case}*"):
            file.unlink()
        dataset_class.save_case(spoilt, segmentation, properties, f"{folder}/{case}")
    assert re.search(r"preprocessed case \w+ holds NaN or infinite voxels", train_fails(copy))


@pytest.fixture(scope="module")
def model(workspace):
    workspace.run("nnUNetv2_train", DATASET, "2d", 0, "-tr", CSAD, "-device", "cpu")
    return workspace


def test_continuing_with_other_streams_or_from_another_trainer(model, copy):
    # other files of tests have trained further folds of it, where they ran before
    others = shutil.ignore_patterns("fold_[!0]*")
    shutil.copytree(model.model(DATASET, CSAD, "2d"), copy.model(DATASET, CSAD, "2d"), ignore=others)
    fold = copy.model(DATASET, CSAD, "2d") / "fold_0"
    (fold / "checkpoint_final.pth").rename(fold / "checkpoint_latest.pth")
    (fold / "attention.json").unlink()
    edit_json(copy.plans_file(DATASET), lambda plans: plans.update(xmodal={"streams": [["ADC"], ["T2W"]]}))
    sentence = train_fails(copy, CSAD, "2d", "--c")
    assert "trained with the streams [[0], [1]], but" in sentence and "now say [[1], [0]]" in sentence

    checkpoint = torch.load(fold / "checkpoint_latest.pth", weights_only=False)
    torch.save({**checkpoint, "trainer_name": "nnUNetTrainerSCFF"}, fold / "checkpoint_latest.pth")
    assert f"was written by nnUNetTrainerSCFF and cannot be loaded by {CSAD}" in train_fails(copy, CSAD, "2d", "--c")


def predict_fails(space, command, images, *arguments, **environment) -> tuple[str, list]:
    output = space.root / "never"
    shutil.rmtree(output, ignore_errors=True)
    message = space.run(command, "-i", images, "-o", output, "-d", 901, "-c", "2d", "-tr", CSAD, "-f", 0, "-device",
                        "cpu", "-npp", 0, "-nps", 0, *arguments, fails=True, **environment)  # fmt: skip
    return last_sentence(message), list(output.rglob("*.nii.gz")) if output.exists() else []


@pytest.fixture
def images(model, tmp_path):
    return shutil.copytree(model.raw / DATASET / "imagesTs", tmp_path / "images")


def spoil(path, change) -> None:
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(change(image), str(path))


def with_nan(image):
    array = sitk.GetArrayFromImage(image)
    array[3, 3, 3] = np.nan
    spoilt = sitk.GetImageFromArray(array)
    spoilt.CopyInformation(image)
    return spoilt


def shifted(image):
    image.SetOrigin((3.0, 0.0, 0.0))
    return image


def test_our_prediction_says_what_is_wrong_with_the_images(model, images):
    first, second = sorted(images.iterdir())
    intact = second.read_bytes()
    for fault, sentence in (
        (lambda: spoil(second, with_nan), "holds NaN or infinite voxels"),
        (lambda: spoil(second, shifted), "has the origin"),
        (lambda: second.write_bytes(intact[:500]), "cannot be read"),
        (lambda: shutil.copy(first, images / first.name.replace("_0000", "_0002")), "one channel too many"),
    ):
        fault()
        message, written = predict_fails(model, "nnUNetXModal_predict", images)
        assert sentence in message and written == []
        second.write_bytes(intact)
        for superfluous in images.glob("*_0002.nii.gz"):
            superfluous.unlink()
    first.unlink()
    message, written = predict_fails(model, "nnUNetXModal_predict", images)
    assert f"{first.name} is missing" in message and written == []


def test_our_prediction_says_what_is_wrong_with_the_model(model, images):
    message, _ = predict_fails(model, "nnUNetXModal_predict", images, "-f", 3)
    assert "fold_3/checkpoint_final.pth is missing" in message
    message, _ = predict_fails(model, "nnUNetXModal_predict", images, "-tr", "nnUNetTrainerPLC")
    assert "there is no model" in message
    message, _ = predict_fails(model, "nnUNetXModal_predict", images, nnUNet_results=None)
    assert "nnUNet_results is not set" in message


def test_stock_prediction_with_a_missing_modality(model, images):
    sorted(images.iterdir())[0].unlink()  # nnU-Net reads _0001 in its place
    message, written = predict_fails(model, "nnUNetv2_predict", images)
    assert "trained on 2 input channels but got 1" in message and written == []
