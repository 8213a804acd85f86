"""A model folder that lacks files or was made hostile is a sentence, for every command that reads it."""

import json
from argparse import Namespace

import pytest
import torch

from nnunet_xmodal.commands.predict import main, parser, request_of
from nnunet_xmodal.comparison.cost import network_cost
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.model_files import check_model
from nnunet_xmodal.predict import predict
from nnunet_xmodal.tasks.few_shot.predictor import FewShotPredictor
from nnunet_xmodal.tasks.reconstruction.predictor import ReconstructionPredictor
from nnunet_xmodal.tasks.registration.predictor import RegistrationPredictor
from nnunet_xmodal.tasks.segmentation.imputation import Imputation
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor
from nnunet_xmodal.tasks.synthesis.predictor import SynthesisPredictor

TRAINERS = ["nnUNetTrainer", "nnUNetTrainerMultiStream"]
PREDICTORS = [
    SegmentationPredictor,
    FewShotPredictor,
    SynthesisPredictor,
    RegistrationPredictor,
    ReconstructionPredictor,
]


def refused(model, tmp_path, *flags) -> str:
    """The sentence with which a prediction is refused; nothing was written."""
    (tmp_path / "in").mkdir(exist_ok=True)
    words = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *model.flags, *flags]
    with pytest.raises(XModalError) as error:
        predict(request_of(parser().parse_args(words)))
    assert not (tmp_path / "out").exists() and not model.touched.exists()
    return str(error.value)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_good_model_loads(make_model, trainer):
    model = make_model(trainer)
    check_model(model.folder, [0])
    predictor = SegmentationPredictor(device=torch.device("cpu"))
    for folds in ((0,), "0", None):
        predictor.initialize_from_trained_model_folder(str(model.folder), folds)
        assert predictor.trainer_name == trainer and len(predictor.list_of_parameters) == 1


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_strangers_checkpoint(make_model, tmp_path, trainer):
    model = make_model(trainer)
    model.poison_checkpoint()
    assert f"{model.checkpoint} holds" in refused(model, tmp_path)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_strangers_plans(make_model, tmp_path, trainer):
    model = make_model(trainer)
    model.change_architecture(**model.run_command())
    assert f"nonlin in configuration 2d of {model.folder / 'plans.json'} is 'subprocess.check_output'" in refused(
        model, tmp_path
    )


@pytest.mark.parametrize("kind", PREDICTORS)
@pytest.mark.parametrize("poison", ["plans", "checkpoint"])
def test_every_predictor_looks_first(make_model, kind, poison):
    model = make_model()
    model.poison_checkpoint() if poison == "checkpoint" else model.change_architecture(**model.run_command())
    with pytest.raises(XModalError, match="--trust"):
        kind(device=torch.device("cpu")).initialize_from_trained_model_folder(str(model.folder), (0,))
    assert not model.touched.exists()


@pytest.mark.parametrize("poison", ["plans", "checkpoint"])
def test_who_trusts_runs_it(make_model, tmp_path, poison):
    """As nnU-Net does; afterwards nobody is trusted."""
    model = make_model()
    model.poison_checkpoint() if poison == "checkpoint" else model.change_architecture(**model.run_command())
    (tmp_path / "in").mkdir()
    words = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *model.flags]
    with pytest.raises(Exception):  # noqa: B017  no image, or a network of bytes
        predict(request_of(parser().parse_args([*words, "--trust"])))
    assert model.touched.exists()
    model.touched.unlink()
    with pytest.raises(XModalError, match="--trust"):
        predict(request_of(parser().parse_args(words)))
    assert not model.touched.exists()


@pytest.mark.parametrize("poison", ["plans", "checkpoint"])
def test_imputation_looks_first(make_model, make_dataset_json, poison):
    model = make_model("nnUNetTrainerMultiStream")
    content = torch.load(model.checkpoint, weights_only=False)
    torch.save({**content, "trainer_name": "nnUNetTrainerCMFT"}, model.checkpoint)
    model.poison_checkpoint() if poison == "checkpoint" else model.change_architecture(**model.run_command())
    predictor = SegmentationPredictor(device=torch.device("cpu"))
    predictor.dataset_json = make_dataset_json()
    with pytest.raises(XModalError, match="--trust"):
        Imputation(str(model.folder), [0], "checkpoint_final.pth", predictor)
    assert not model.touched.exists()


def test_a_comparison_counts_no_cost_of_strangers_plans(make_model):
    model = make_model()
    assert network_cost(model.folder, "nnUNetTrainer", "2d")[0] > 0
    model.change_architecture(**model.run_command())
    with pytest.raises(XModalError, match="subprocess.check_output"):
        network_cost(model.folder, "nnUNetTrainer", "2d")
    assert not model.touched.exists()


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
@pytest.mark.parametrize("fault", ["missing", "empty", "cut", "of something else", "a folder", "not UTF-8"])
def test_json_files_that_lack(make_model, tmp_path, name, fault):
    model = make_model()
    file = model.folder / name
    content = file.read_bytes()
    file.unlink()
    if fault == "a folder":
        file.mkdir()
    elif fault != "missing":
        changed = {"empty": b"", "cut": content[: len(content) // 2], "of something else": b"[1]"}
        file.write_bytes(changed.get(fault, b"\xff\xfe\x00"))
    sentence = refused(model, tmp_path)
    assert str(file) in sentence and ("copy" in sentence or "install" in sentence)


@pytest.mark.parametrize("ending", [None, 5, "", "nii.gz", "/../../x.nii.gz", ".nii/x", ".nii.gz\n"])
def test_file_endings_lead_nowhere(make_model, tmp_path, ending):
    model = make_model()
    content = json.loads((model.folder / "dataset.json").read_text())
    (model.folder / "dataset.json").write_text(json.dumps({**content, "file_ending": ending}))
    assert '"file_ending" of' in refused(model, tmp_path)


@pytest.mark.parametrize("key", ["labels", "channel_names"])
def test_a_dataset_json_without_labels_or_channels(make_model, tmp_path, key):
    model = make_model()
    content = json.loads((model.folder / "dataset.json").read_text())
    del content[key]
    (model.folder / "dataset.json").write_text(json.dumps(content))
    assert str(model.folder / "dataset.json") in refused(model, tmp_path)


def test_a_fold_that_is_missing(make_model, tmp_path):
    model = make_model()
    assert f"{model.folder / 'fold_3' / 'checkpoint_final.pth'} is missing" in refused(model, tmp_path, "-f", "3")
    assert "name the trained ones with -f (0)" in refused(model, tmp_path, "-f", "0", "3")
    model.checkpoint.rename(model.checkpoint.with_name("checkpoint_best.pth"))
    assert "take checkpoint_best.pth with -chk" in refused(model, tmp_path)
    (model.folder / "fold_0" / "checkpoint_best.pth").unlink()
    (model.folder / "fold_0").rmdir()
    assert "no fold has one" in refused(model, tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_checkpoint_that_was_cut_stays(make_model, tmp_path, share):
    model = make_model()
    content = model.checkpoint.read_bytes()[: int(share * model.checkpoint.stat().st_size)]
    model.checkpoint.write_bytes(content)
    assert f"{model.checkpoint} is no readable checkpoint" in refused(model, tmp_path)
    assert model.checkpoint.read_bytes() == content


@pytest.mark.parametrize("lost", ["trainer_name", "init_args", "network_weights"])
def test_a_checkpoint_that_lacks_something(make_model, tmp_path, lost):
    model = make_model()
    content = torch.load(model.checkpoint, weights_only=False)
    del content[lost]
    torch.save(content, model.checkpoint)
    (tmp_path / "in").mkdir()
    with pytest.raises(XModalError, match="checkpoint_final.pth"):
        SegmentationPredictor(device=torch.device("cpu")).initialize_from_trained_model_folder(str(model.folder), (0,))


def test_a_checkpoint_of_a_configuration_that_plans_do_not_have(make_model):
    model = make_model()
    content = torch.load(model.checkpoint, weights_only=False)
    content["init_args"]["configuration"] = "3d_fullres"
    torch.save(content, model.checkpoint)
    with pytest.raises(XModalError, match="'3d_fullres'.*another model's"):
        check_model(model.folder, [0])


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("spacing", None, "has no spacing, of which"),
        ("spacing", [float("nan"), 1.0], "has the spacing"),
        ("spacing", [1.0], "has the spacing"),
        ("spacing", [0, 1.0], "has the spacing"),
        ("patch_size", "big", "has the patch_size 'big'"),
        ("patch_size", [-1, 5], "has the patch_size"),
        ("patch_size", [2**40, 2**40], "has the patch_size"),
        ("normalization_schemes", ["ZScoreNormalization"], "has the normalization_schemes"),
        ("use_mask_for_norm", [0, 1], "has the use_mask_for_norm"),
        ("resampling_fn_data_kwargs", None, "has no resampling_fn_data_kwargs"),
        ("resampling_fn_data_kwargs", {"made_up": 1}, "has the resampling_fn_data_kwargs"),
        ("preprocessor_name", None, "has no preprocessor_name"),
        ("transpose_forward", [0, 0, 1], "has the transpose_forward"),
        ("image_reader_writer", None, "has no image_reader_writer"),
        ("foreground_intensity_properties_per_channel", {}, "has the foreground_intensity_properties_per_channel"),
        ("xmodal", [1], '"xmodal" in'),
    ],
)
def test_settings_of_which_nnunet_can_make_nothing(make_model, tmp_path, key, value, sentence):
    model = make_model()

    def change(plans):
        place = plans["configurations"]["2d"] if key in plans["configurations"]["2d"] else plans
        place.pop(key, None)
        if value is not None:
            place[key] = value

    model.change_plans(change)
    said = refused(model, tmp_path)
    assert sentence in said and str(model.folder / "plans.json") in said and said.endswith("copy the file anew.")


@pytest.mark.parametrize("change", ["a weight less", "a weight of another shape", "another argument"])
def test_weights_of_another_network(make_model, tmp_path, change):
    model = make_model()
    if change == "another argument":
        model.change_architecture(made_up=1)
    else:
        content = torch.load(model.checkpoint, weights_only=False)
        name = next(iter(content["network_weights"]))
        weight = content["network_weights"].pop(name)
        if change == "a weight of another shape":
            content["network_weights"][name] = torch.zeros(3, *weight.shape)
        torch.save(content, model.checkpoint)
    assert "are not of one network" in refused(model, tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_which_everything_would_be_background(make_model, tmp_path, value):
    model = make_model()
    content = torch.load(model.checkpoint, weights_only=False)
    name = list(content["network_weights"])[-1]
    content["network_weights"][name].view(-1)[0] = value
    torch.save(content, model.checkpoint)
    assert f"{model.checkpoint} holds NaN or infinite weights ({name})" in refused(model, tmp_path)


def test_an_output_that_is_a_file_and_an_input_that_is_one(make_model, tmp_path, capsys):
    model, file = make_model(), tmp_path / "file.nii.gz"
    file.write_text("mine")
    (tmp_path / "in").mkdir()
    for given, output in ((file, tmp_path / "out"), (tmp_path / "in", file), (tmp_path / "in", file / "below")):
        with pytest.raises(SystemExit) as status:
            main(["-i", str(given), "-o", str(output), *model.flags])
        assert status.value.code == 2
        assert f"{file} is a file, but a folder is" in capsys.readouterr().err
    assert file.read_text() == "mine" and not (tmp_path / "out").exists()


def test_flags_reach_the_check():
    args: Namespace = parser().parse_args(["-i", "a", "-o", "b", "-d", "1", "-c", "2d"])
    assert args.trust is False
