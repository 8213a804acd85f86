"""`nnUNetXModal_explain`: what it leaves, that its numbers add up, and what it refuses."""

import csv
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from organ_scans import ORGAN, image_of, noise, turn_files, voxels, write
from PIL import Image
from torch import nn

from nnunet_xmodal.commands import export
from nnunet_xmodal.commands.explain import parser, request_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.explain import explain
from nnunet_xmodal.geometry.resampling import same_grid
from nnunet_xmodal.networks.zero_filled_unet import ZeroFilledUNet
from nnunet_xmodal.tasks.segmentation import explanation_files
from nnunet_xmodal.tasks.segmentation.players import players_of

SLICE = ORGAN[:, 7:9]
"""Along the axis of the slices, see `make_model`."""


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """A pixel stands for each figure: drawing takes most of the time, and is tested by itself."""
    pixel = BytesIO()
    Image.new("L", (1, 1)).save(pixel, "PNG")
    for name, place in (("draw_bars", 0), ("draw_heat", 1)):
        stand_in = lambda panels, *others, place=place: Path(others[place]).write_bytes(pixel.getvalue())  # noqa: E731
        monkeypatch.setattr(explanation_files, name, stand_in)


@pytest.fixture
def scan(tmp_path):
    """Writes two slices of a case, with some channels."""

    def make(channels=2):
        for channel in range(channels):
            write(image_of(noise(channel)[:, 7:9]), tmp_path, "in", f"anna_000{channel}.nii.gz")

    return make


@pytest.fixture
def run_explain(tmp_path):
    def run(model, *flags, output="told"):
        words = ["-i", tmp_path / "in", "-o", tmp_path / output, "-npp", 0, "--disable_tta", *model, *flags]
        explain(request_of(parser().parse_args([str(word) for word in words])))
        return tmp_path / output

    return run


def table(file):
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainerAnyStreams"])
def test_values_add_up_to_what_is_predicted(make_model, scan, run, run_explain, tmp_path, trainer):
    model = make_model(2, trainer=trainer)
    scan()
    write(image_of(SLICE), tmp_path, "gt", "anna.nii.gz")
    folder = run_explain(model, "--gt", tmp_path / "gt")
    predicted = voxels(run(model, "out", "--disable_tta") / "anna.nii.gz")
    rows = table(folder / "shapley.csv")
    assert {row["player"] for row in rows} == {"T1", "T1c"}
    of_sets = {
        (row["label"], row["measure"], row["given"]): row["worth"] for row in table(folder / "shapley_subsets.csv")
    }
    voxel_ml = 1.0 * 1.3 * 2.5 / 1000
    for value, label in ((1, "edema"), (2, "tumour")):
        of_label = [row for row in rows if (row["label"], row["measure"]) == (label, "volume_ml")]
        volume = (predicted == value).sum() * voxel_ml
        assert float(of_label[0]["with_all"]) == pytest.approx(volume)
        assert float(of_sets[label, "volume_ml", "T1 T1c"]) == pytest.approx(volume)
        total = sum(float(row["value"]) for row in of_label)
        assert total == pytest.approx(volume - float(of_label[0]["with_none"]))
    dice = [row for row in rows if row["measure"] == "Dice" and row["label"] == "edema"]
    true = SLICE > 0
    expected = 2 * ((predicted == 1) & true).sum() / ((predicted == 1).sum() + true.sum())
    assert float(dice[0]["with_all"]) == pytest.approx(expected)
    assert all(row["value"] == "" for row in rows if (row["label"], row["measure"]) == ("tumour", "Dice"))
    if trainer == "nnUNetTrainerAnyStreams":  # without any stream there is no prediction
        assert float(of_sets["edema", "volume_ml", "nothing"]) == 0
    assert (folder / "shapley.png").is_file() and (folder / "anna_shapley.png").is_file()
    assert {row["n"] for row in table(folder / "shapley_summary.csv")} == {"1", "0"}
    assert not list(folder.rglob(".*"))


def test_cases_are_turned_as_the_model_was_trained(make_model, scan, run, run_explain, tmp_path):
    """The same numbers of the same patient, however the files are stored; maps lie on their grid."""
    model = make_model(2, xmodal={"orientation": "LPS"})
    scan()
    write(image_of(SLICE), tmp_path, "gt", "anna.nii.gz")
    flags = ["--gt", tmp_path / "gt", "--what", "shapley", "gradcam"]
    expected = run_explain(model, *flags)
    turn_files(tmp_path / "in", "RAI")
    turn_files(tmp_path / "gt", "RAI")
    found = run_explain(model, *flags, output="turned")
    assert table(found / "shapley.csv") == table(expected / "shapley.csv")
    given = sitk.ReadImage(str(tmp_path / "in" / "anna_0000.nii.gz"))
    for ours in (found / "gradcam").iterdir():
        heat = sitk.ReadImage(str(ours))
        assert same_grid(heat, given)
        back = sitk.GetArrayFromImage(sitk.DICOMOrient(heat, "LPS"))
        assert np.allclose(back, voxels(expected / "gradcam" / ours.name), atol=1e-6)


def test_within_an_organ_volumes_are_those_that_are_predicted_there(make_model, scan, run, run_explain, tmp_path):
    model = make_model(2)
    scan()
    write(image_of(SLICE), tmp_path, "masks", "anna.nii.gz")
    flags = ["--roi", tmp_path / "masks", "--margin", 3]
    rows = table(run_explain(model, *flags) / "shapley.csv")
    predicted = voxels(run(model, "out", "--disable_tta", *flags) / "anna.nii.gz")
    whole = voxels(run(model, "whole", "--disable_tta") / "anna.nii.gz")
    assert not np.array_equal(predicted, whole)
    for value, label in ((1, "edema"), (2, "tumour")):
        (volume,) = {float(row["with_all"]) for row in rows if row["label"] == label}
        assert volume == pytest.approx((predicted == value).sum() * 1.0 * 1.3 * 2.5 / 1000)


@pytest.mark.slow
def test_a_model_by_its_place_is_explained_as_by_its_names(
    make_model, scan, run_explain, nnunet_folders, tmp_path, monkeypatch
):
    flags = make_model(2, trainer="nnUNetTrainerAnyStreams")
    scan()
    by_names = table(run_explain(flags) / "shapley.csv")
    (folder,) = (nnunet_folders / "nnUNet_results").glob("*/*")
    export.main(["-m", str(folder), "-o", str(tmp_path / "model.zip")])
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(variable)
    for number, place in enumerate((folder, tmp_path / "model.zip")):
        told = run_explain(["-m", place, "-device", "cpu", "--disable_progress_bar"], output=f"by_place{number}")
        assert table(told / "shapley.csv") == by_names


def test_a_channel_that_the_network_does_not_read_gets_nothing(make_model, scan, run_explain):
    model = make_model(2, trainer="nnUNetTrainerStream1")
    scan()
    rows = table(run_explain(model, "--of", "channels", "--label", "edema") / "shapley.csv")
    values = {row["player"]: float(row["value"]) for row in rows}
    assert values["T1"] == 0 != values["T1c"]


def test_streams_of_several_channels_are_told_as_one_or_one_by_one(make_model, scan, run_explain, tmp_path):
    """A stream with a channel left is present, with the mean in the place of the other."""
    model = make_model(2, trainer="nnUNetTrainerMultiStreamDropout", streams=((0,), (1, 2)))
    scan(channels=3)
    streams = table(run_explain(model, output="streams") / "shapley_subsets.csv")
    channels = table(run_explain(model, "--of", "channels", output="channels") / "shapley_subsets.csv")
    assert len({row["given"] for row in streams}) == 4 and len({row["given"] for row in channels}) == 8
    by_stream = {(row["label"], row["given"].replace("+", " ")): row["worth"] for row in streams}
    by_channel = {(row["label"], row["given"]): row["worth"] for row in channels}
    assert by_stream.items() <= by_channel.items()


def test_channels_are_shared_out_in_groups_of_ones_own(make_model, scan, run_explain, tmp_path):
    """Of a model without streams, too."""
    model = make_model(2, trainer="nnUNetTrainerMultiStreamDropout", streams=((0,), (1, 2)))
    scan(channels=3)
    names = [row["player"] for row in table(run_explain(model, "--of", "channels", output="channels") / "shapley.csv")]
    first, second, third = dict.fromkeys(names)
    grouped = table(run_explain(model, "--of", f"{first}+{third}", second, output="groups") / "shapley.csv")
    assert list(dict.fromkeys(row["player"] for row in grouped)) == [f"{first}+{third}", second]
    with pytest.raises(XModalError, match="name channel 2 .* in none of them"):
        run_explain(model, "--of", first, second, output="fewer")


def test_explanations_of_something_else_are_not_mixed_in(make_model, scan, run_explain, tmp_path):
    model, other = make_model(2), make_model(2, trainer="nnUNetTrainerMultiStream")
    scan()
    folder = run_explain(model)
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    with pytest.raises(XModalError, match="holds explanations with the model .*nnUNetTrainer__.*: give another -o"):
        run_explain(other)
    for file in list((tmp_path / "in").iterdir()):
        file.rename(file.with_name(file.name.replace("anna", "cleo")))
    with pytest.raises(XModalError, match="holds explanations of anna, which is not among these cases"):
        run_explain(model)
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before
    for name in ("mine", "gt"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shapley.csv").write_text("mine")
    write(image_of(SLICE), tmp_path, "gt", "cleo.nii.gz")
    with pytest.raises(XModalError, match="shapley.csv is of no explanation that is on record"):
        run_explain(model, output="mine")
    with pytest.raises(XModalError, match="is the folder that --gt reads"):
        run_explain(model, "--gt", tmp_path / "gt", output="gt")
    assert (tmp_path / "gt" / "shapley.csv").read_text() == (tmp_path / "mine" / "shapley.csv").read_text() == "mine"


def test_references_that_are_nearly_whole_numbers_are_labels(make_model, scan, run_explain, tmp_path):
    """As a header's slope of 1/255 leaves them."""
    model = make_model(2)
    scan()
    write(image_of(SLICE), tmp_path, "gt", "anna.nii.gz")
    expected = table(run_explain(model, "--gt", tmp_path / "gt") / "shapley.csv")
    nearly = sitk.Cast(sitk.ReadImage(str(tmp_path / "gt" / "anna.nii.gz")), sitk.sitkFloat32) * 1.0000001
    sitk.WriteImage(nearly, str(tmp_path / "gt" / "anna.nii.gz"))
    assert table(run_explain(model, "--gt", tmp_path / "gt", output="again") / "shapley.csv") == expected


@pytest.mark.parametrize("trainer, stages", [("nnUNetTrainer", 2), ("nnUNetTrainerCSAD", 3)])
def test_maps_lie_where_the_case_lies(make_model, scan, run_explain, trainer, stages):
    pytest.importorskip("captum", reason="captum is not installed: pip install captum")
    what = ["gradcam", *(["attention"] if trainer == "nnUNetTrainerCSAD" else [])]
    model = make_model(2, trainer=trainer)
    scan()
    folder = run_explain(model, "--what", *what, "--label", "edema")
    maps = sorted(folder.glob("gradcam/anna_edema_level2_*.nii.gz"))
    assert len(maps) == stages and not (folder / "shapley.csv").exists()
    for file in maps:
        values = voxels(file)
        assert values.shape == SLICE.shape and values.min() >= 0
    assert max(voxels(file).max() for file in maps) > 0.3  # 1 on the network's grid
    if "attention" in what:
        assert len(list(folder.glob("attention/*.nii.gz"))) == 6
    for name in what:
        assert (folder / f"anna_{name}.png").is_file()


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--label", "lesion"], "--label lesion is no label of dataset.json: take from edema, tumour"),
        (["--of", "streams"], "the model of nnUNetTrainer has no streams"),
        (["--what", "attention"], "network of nnUNetTrainer has no attention maps"),
        (["--what", "gradcam", "--level", "9"], "has the levels 1 .fine. to 3"),
        (["--gt", "."], "anna.nii.gz is missing: --gt needs a reference of every case"),
    ],
)
def test_what_cannot_be_told_is_a_sentence_and_no_folder(make_model, scan, run_explain, tmp_path, flags, sentence):
    if "gradcam" in flags:
        pytest.importorskip("captum", reason="captum is not installed: pip install captum")
    model = make_model(2)
    scan()
    with pytest.raises(XModalError, match=sentence):
        run_explain(model, *flags)
    assert not (tmp_path / "told").exists()


def test_seven_players_are_too_many():
    names = {str(number): f"M{number}" for number in range(7)}
    predictor = SimpleNamespace(plans_manager=SimpleNamespace(plans={}), dataset_json={"channel_names": names})
    with pytest.raises(
        XModalError, match=r"7 streams or channels take 128 .* 6 are the most: group them, for example --of M0\+M1"
    ):
        players_of(predictor)


@pytest.mark.parametrize("zero_filled, means", [(False, (0.25, 7.0)), (True, (0.0, 0.0))])
def test_absent_channels_hold_what_the_network_has_learnt(make_unet_arguments, zero_filled, means):
    """Where images are not normalised the training's mean is not 0."""
    arguments = {name: value for name, value in make_unet_arguments([[0, 1]]).items() if name != "streams"}
    predictor = SimpleNamespace(
        network=ZeroFilledUNet(n_channels=2, **arguments) if zero_filled else nn.Identity(),
        dataset_json={"channel_names": {"0": "PET", "1": "T2"}},
        trainer_name="nnUNetTrainer",
        plans_manager=SimpleNamespace(
            plans={},
            foreground_intensity_properties_per_channel={
                "0": {"mean": 1.25, "min": 1.0, "max": 2.0},
                "1": {"mean": 7.0, "min": 0.0, "max": 9.0},
            },
        ),
        configuration_manager=SimpleNamespace(
            normalization_schemes=["RescaleTo01Normalization", "NoNormalization"],
        ),
    )
    assert players_of(predictor).means == means


def test_a_network_is_moved_where_gradients_may_pass(make_model, scans, run, monkeypatch):
    """On a GPU what moves within inference mode has no gradients afterwards, and Grad-CAM follows a prediction."""
    to, without_gradients = nn.Module.to, []

    def noted(module, *args, **kwargs):
        without_gradients.append(torch.is_inference_mode_enabled())
        return to(module, *args, **kwargs)

    scans()
    model = make_model()
    monkeypatch.setattr(nn.Module, "to", noted)
    run(model, "out")
    assert without_gradients and not without_gradients[0]
