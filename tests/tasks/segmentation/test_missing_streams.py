"""Cases that lack channels: what is read, what is written, what is refused."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fast_ones import turn_about
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import trainers
from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.datasets.partial_cases import partial_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.of_present_streams import OfPresentStreams
from nnunet_xmodal.tasks.segmentation.missing_streams import predict_partial_cases
from nnunet_xmodal.tasks.segmentation.options import SegmentationOptions
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor

STREAMS = [[0, 3], [1, 2]]
NAMES = ["T1", "T1c", "T2", "FLAIR"]


@pytest.fixture
def plans(make_plans):
    plans = make_plans(2, channels=4, streams=STREAMS, widths=(4, 8), patch_size=(8, 8))
    plans["configurations"]["2d"]["use_mask_for_norm"] = [True] * 4
    return plans


@pytest.fixture
def make_predictor(plans, make_dataset_json, nnunet_folders):
    """`(trainer)` → predictor with an untrained model of two folds."""

    def make(name="nnUNetTrainerCSADDropout"):
        manager = PlansManager(plans)
        configuration = manager.get_configuration("2d")
        build = partial(getattr(trainers, name).build_network_architecture, manager, configuration, 4, 3, False)
        predictor = SegmentationPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.manual_initialization(
            build(), manager, configuration, [build().state_dict() for _ in range(2)], make_dataset_json("labels", 4),
            name, (0, 1),
        )  # fmt: skip
        return predictor

    return make


def write(folder, case, channels, border=2, seed=0):
    """Images with an empty border."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for channel in range(4):
        array = np.zeros((2, 14, 12), np.float32)
        array[:, border:-border, border:-border] = rng.uniform(50, 150, array.shape)[:, border:-border, border:-border]
        if channel in channels:
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{case}_{channel:04d}.nii.gz"))


@pytest.fixture
def images(tmp_path):
    return partial(write, tmp_path / "in")


def run(predictor, tmp_path, *flags, output="out"):
    words = ["-i", tmp_path / "in", "-o", tmp_path / output, "-d", "1", "-c", "2d", "-npp", 0, "-nps", 0, *flags]
    request = request_of(parser().parse_args([str(word) for word in [*words, "--save_probabilities"]]))
    cases = request.of_this_part(partial_cases(request.images, predictor.dataset_json))
    predict_partial_cases(predictor, cases, request, SegmentationOptions(**request.options))


def probabilities(tmp_path, case, output="out"):
    with np.load(tmp_path / output / f"{case}.npz") as file:
        return file["probabilities"]


def told(tmp_path, output="out", part=""):
    return json.loads((tmp_path / output / f"missing{part}.json").read_text())


def test_a_complete_case_is_predicted_as_ever(make_predictor, images, tmp_path):
    predictor = make_predictor()
    images("anna", range(4)), images("ben", [0, 3])
    run(predictor, tmp_path, "--allow_missing")
    (tmp_path / "ever").mkdir()
    files = [[str(tmp_path / "in" / f"anna_{channel:04d}.nii.gz") for channel in range(4)]]
    predictor.predict_from_files_sequential(files, str(tmp_path / "ever"), save_probabilities=True)
    assert np.array_equal(probabilities(tmp_path, "anna"), probabilities(tmp_path, "anna", "ever"))
    for name in ("dataset.json", "plans.json"):  # which nnU-Net writes beside predictions
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "ever" / name).read_bytes()


@pytest.mark.parametrize(
    "name, given, other",
    turn_about(["nnUNetTrainerCSADDropout", "nnUNetTrainerCMFFDropout"], [([0, 3], 1), ([1, 2], 0)]),
)
def test_a_stream_that_is_not_complete_is_not_read(make_predictor, images, tmp_path, name, given, other):
    """Another size, a larger non-zero region, NaN: it decides neither the crop nor the scale nor the result."""
    predictor = make_predictor(name)
    images("anna", given)
    run(predictor, tmp_path, "--allow_missing", output="alone")
    file = str(tmp_path / "in" / f"anna_{other:04d}.nii.gz")
    for content in (np.full((2, 14, 12), 7.0), np.full((2, 14, 12), np.nan), np.ones((5, 5, 5))):
        sitk.WriteImage(sitk.GetImageFromArray(content.astype(np.float32)), file)
        run(predictor, tmp_path, "--allow_missing")
        assert np.array_equal(probabilities(tmp_path, "anna"), probabilities(tmp_path, "anna", "alone"))


def test_the_probabilities_are_those_of_the_network_without_the_stream(make_predictor, images, tmp_path):
    """By hand: one fold, one tile, no mirroring."""
    predictor = make_predictor()
    predictor.list_of_parameters = predictor.list_of_parameters[:1]
    predictor.use_mirroring = False
    images("anna", [1, 2], border=3)  # 8×6 voxels, which nnU-Net pads to a patch
    run(predictor, tmp_path, "--allow_missing")

    x = torch.zeros(2, 4, 8, 8)
    for channel in (1, 2):
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "in" / f"anna_{channel:04d}.nii.gz")))
        inside = array[:, 3:-3, 3:-3]
        x[:, channel, :, 1:-1] = torch.from_numpy((inside - inside.mean()) / inside.std())
    with torch.no_grad():
        expected = predictor.network.eval()(x, torch.tensor([[False, True]] * 2)).softmax(1)[..., 1:-1]
    result = probabilities(tmp_path, "anna")[:, :, 3:-3, 3:-3]
    np.testing.assert_allclose(result, expected.transpose(0, 1), atol=2e-3)  # nnU-Net sums in float16


def test_what_was_missing_is_told_of_every_case(make_predictor, images, tmp_path, capsys):
    images("anna", [0, 1, 3]), images("ben", [1, 2]), images("eve", range(4))
    run(make_predictor(), tmp_path, "--allow_missing")
    assert told(tmp_path) == {
        "anna": {"missing_channels": ["T2"], "absent_streams": [["T1c", "T2"]], "imputed_by": None},
        "ben": {"missing_channels": ["T1", "FLAIR"], "absent_streams": [["T1", "FLAIR"]], "imputed_by": None},
        "eve": {"missing_channels": [], "absent_streams": [], "imputed_by": None},
    }
    printed = capsys.readouterr().out
    assert "anna has no T2: predicted without T1c+T2." in printed and "eve has no" not in printed
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {
        f"{c}.nii.gz" for c in ("anna", "ben", "eve")
    }


def test_calls_that_share_the_cases_tell_in_files_of_their_own(make_predictor, images, tmp_path):
    images("anna", [0, 3]), images("ben", [1, 2])
    predictor = make_predictor()
    for part in (0, 1):
        run(predictor, tmp_path, "--allow_missing", "-num_parts", 2, "-part_id", part)
    assert [list(told(tmp_path, part=f"_part{part}of2")) for part in (0, 1)] == [["anna"], ["ben"]]


def test_the_predictor_is_what_it_was(make_predictor, images, tmp_path):
    images("anna", [0, 3])
    predictor = make_predictor()
    before = predictor.network, predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
    run(predictor, tmp_path, "--allow_missing")
    after = predictor.network, predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
    assert all(a is b for a, b in zip(before, after))


@pytest.mark.parametrize(
    "name, channels, flags, sentence",
    [
        ("nnUNetTrainerCSAD", [0, 3], [], "was never trained without a stream: for --allow_missing train"),
        ("nnUNetTrainerCSADDropout", [0, 1], [], r"anna_0003.nii.gz \(FLAIR\) is missing: case anna needs all"),
        ("nnUNetTrainerCSADDropout", [0, 3, 4], [], "anna_0004.nii.gz is one channel too many"),
        ("nnUNetTrainerCSADDropout", [0, 3], ["--attention_maps"], "leave out --allow_missing"),
    ],
)  # fmt: skip
def test_refusals_before_anything_is_written(make_predictor, images, tmp_path, name, channels, flags, sentence):
    images("anna", channels)
    for channel in set(channels) - set(range(4)):
        (tmp_path / "in" / f"anna_{channel:04d}.nii.gz").touch()
    with pytest.raises(XModalError, match=sentence):
        run(make_predictor(name), tmp_path, "--allow_missing", *flags)
    assert not (tmp_path / "out").exists()


def test_what_is_read_is_checked(make_predictor, images, tmp_path):
    images("anna", [0, 3]), images("ben", range(4))
    file = str(tmp_path / "in" / "anna_0003.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 14, 12), np.nan, np.float32)), file)
    with pytest.raises(XModalError, match="anna_0003.nii.gz holds NaN"):
        run(make_predictor(), tmp_path, "--allow_missing")
    assert not (tmp_path / "out").exists()


def test_the_second_stage_of_a_cascade_sees_the_first(make_dataset_json, plans, images, tmp_path):
    plans["configurations"]["2d"]["previous_stage"] = "first"
    manager = PlansManager(plans)
    configuration = manager.get_configuration("2d")
    build = trainers.nnUNetTrainerCSADDropout.build_network_architecture
    predictor = SegmentationPredictor(device=torch.device("cpu"), allow_tqdm=False)
    network = build(manager, configuration, 4 + 2, 3, False)
    described = (make_dataset_json("labels", 4), "nnUNetTrainerCSADDropout", None)
    predictor.manual_initialization(network, manager, configuration, [network.state_dict()], *described)
    images("anna", [0, 3])
    (tmp_path / "first").mkdir()
    results = []
    for label in (0, 2):
        stage = np.full((2, 14, 12), label, np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(stage), str(tmp_path / "first" / "anna.nii.gz"))
        run(predictor, tmp_path, "--allow_missing", "-prev_stage_predictions", tmp_path / "first")
        results.append(probabilities(tmp_path, "anna"))
    assert not np.array_equal(*results)


def test_channels_find_their_places_and_a_cascades_stay_behind_them():
    class Seen(torch.nn.Module):
        def forward(self, x, present):
            return x, present

    network = OfPresentStreams(Seen(), [1, 2], n_channels=4, present=[False, True])
    x = torch.randn(2, 4, 3, 3)
    whole, present = network(x)
    assert present.tolist() == [[False, True]] * 2
    assert torch.equal(whole[:, [1, 2, 4, 5]], x) and (whole[:, [0, 3]] == 0).all()


# --impute


@pytest.fixture
def make_cmft(make_trainer, plans, make_dataset_json, tmp_path):
    """`(trainer, …)` → model folder of one untrained fold."""

    def make(name="nnUNetTrainerCMFT", **dataset_json):
        trainer = make_trainer(name, json.loads(json.dumps(plans)), make_dataset_json("labels", 4))
        folder = tmp_path / f"{name}__nnUNetPlans__2d"
        (folder / "fold_0").mkdir(parents=True)
        trainer.save_checkpoint(str(folder / "fold_0" / "checkpoint_final.pth"))
        (folder / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))
        (folder / "dataset.json").write_text(json.dumps(make_dataset_json("labels", 4) | dataset_json))
        return folder

    return make


def test_what_is_made_stands_in_for_what_is_missing(make_predictor, make_cmft, images, tmp_path):
    """As if the made images lay beside the given ones; the model needs no dropout."""
    predictor, model = make_predictor("nnUNetTrainerMultiStream"), make_cmft()
    images("anna", [0, 3]), images("ben", [0, 1, 2], seed=1), images("eve", range(4), seed=2)
    given = sorted((tmp_path / "in").iterdir())
    run(predictor, tmp_path, "--impute", model, "-f", 0)
    assert sorted((tmp_path / "in").iterdir()) == given
    entry = {"model": str(model), "trainer": "nnUNetTrainerCMFT", "folds": [0]}
    assert told(tmp_path) == {
        "anna": {
            "missing_channels": ["T1c", "T2"], "absent_streams": [],
            "imputed_by": entry | {"made_of": ["T1", "FLAIR"]},
        },
        "ben": {"missing_channels": ["FLAIR"], "absent_streams": [], "imputed_by": entry | {"made_of": ["T1c", "T2"]}},
        "eve": {"missing_channels": [], "absent_streams": [], "imputed_by": None},
    }  # fmt: skip

    from nnunet_xmodal.tasks.segmentation.imputation import Imputation

    imputation = Imputation(str(model), [0], "checkpoint_final.pth", predictor)
    cases = partial_cases(tmp_path / "in", predictor.dataset_json)[:2]
    (tmp_path / "made").mkdir()
    anna, ben = imputation.make(cases, tmp_path / "made", 0)
    assert [file.parent.name for file in anna.files.values()] == ["in", "made", "made", "in"]
    assert [file.parent.name for file in ben.files.values()] == ["in", "in", "in", "made"]  # _0000 is there, and stays
    for file in (*anna.files.values(), *ben.files.values()):
        if file.parent.name == "made":
            shutil.copy(file, tmp_path / "in")
    files = [[str(tmp_path / "in" / f"{case}_{c:04d}.nii.gz") for c in range(4)] for case in ("anna", "ben")]
    (tmp_path / "ever").mkdir()
    predictor.predict_from_files_sequential(files, str(tmp_path / "ever"), save_probabilities=True)
    for case in ("anna", "ben"):
        assert np.array_equal(probabilities(tmp_path, case), probabilities(tmp_path, case, "ever"))


def test_images_in_memory_are_files_of_another_ending_and_make_the_same(make_predictor, make_cmft, images, tmp_path):
    """`Model` writes .nii, whatever the images of the training were."""
    predictor, model = make_predictor("nnUNetTrainerMultiStream"), make_cmft()
    images("anna", [0, 3])
    run(predictor, tmp_path, "--impute", model, "-f", 0)
    expected = probabilities(tmp_path, "anna")
    for file in (tmp_path / "in").iterdir():
        sitk.WriteImage(sitk.ReadImage(str(file)), str(file).removesuffix(".gz"))
        file.unlink()
    shutil.rmtree(tmp_path / "out")
    predictor.dataset_json = {**predictor.dataset_json, "file_ending": ".nii"}
    run(predictor, tmp_path, "--impute", model, "-f", 0)
    assert (tmp_path / "out" / "anna.nii").is_file()
    assert np.array_equal(probabilities(tmp_path, "anna"), expected)


def test_with_both_flags_what_cannot_be_made_is_left_out(make_predictor, make_cmft, images, tmp_path, plans):
    model = make_cmft()
    plans["xmodal"]["streams"] = [[0], [3], [1, 2]]
    images("anna", [0, 3]), images("ben", [0])
    run(make_predictor(), tmp_path, "--impute", model, "--allow_missing", "-f", 0)
    assert told(tmp_path)["anna"]["imputed_by"]["made_of"] == ["T1", "FLAIR"]
    assert told(tmp_path)["ben"]["absent_streams"] == [["FLAIR"], ["T1c", "T2"]]


@pytest.mark.parametrize(
    "trainer, dataset_json, flags, sentence",
    [
        ("nnUNetTrainerCMFT", {}, ["-f", 0, 1], "fold_1/checkpoint_final.pth, which is missing: name the folder of a"),
        ("nnUNetTrainerSelfReconstruction", {}, [], "holds a model of nnUNetTrainerSelfReconstruction, which makes no"),
        ("nnUNetTrainerCSAD", {}, [], "holds a model of nnUNetTrainerCSAD, which makes no missing modality"),
        ("nnUNetTrainerCMFT", {"channel_names": {"0": "T1", "1": "T2"}}, [], "trained on the channels T1, T2, but"),
        ("nnUNetTrainerCMFT", {"file_ending": ".png"}, [], "but the files end in .nii.gz and .png: convert"),
    ],
)
def test_models_that_cannot_impute(make_predictor, make_cmft, images, tmp_path, trainer, dataset_json, flags, sentence):
    images("anna", [0, 3])
    with pytest.raises(XModalError, match=sentence):
        run(make_predictor(), tmp_path, "--impute", make_cmft(trainer, **dataset_json), "-f", 0, *flags)
    assert not (tmp_path / "out").exists()


def test_other_scales_than_z_scores_are_refused(make_predictor, make_cmft, images, tmp_path, plans):
    model = make_cmft()
    plans["configurations"]["2d"]["normalization_schemes"][2] = "CTNormalization"
    images("anna", [1, 2])
    run(make_predictor(), tmp_path, "--impute", model, "-f", 0)  # it is given
    images("ben", [0, 3])
    with pytest.raises(XModalError, match="reads T2 with CTNormalization: plan it as an MR channel"):
        run(make_predictor(), tmp_path, "--impute", model, "-f", 0)


def test_a_case_with_neither_stream_complete_cannot_be_completed(make_predictor, make_cmft, images, tmp_path):
    images("anna", [0, 1])
    with pytest.raises(XModalError, match=r"anna_0003.nii.gz \(FLAIR\) is missing: case anna needs all channels of at"):
        run(make_predictor(), tmp_path, "--impute", make_cmft(), "-f", 0)
