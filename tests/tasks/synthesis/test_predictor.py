"""Which channels are made of which files, on which scale."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.generator_pair import GeneratorPair
from nnunet_xmodal.prediction.channel_subset import with_channels_only
from nnunet_xmodal.tasks.synthesis.predictor import SynthesisPredictor

STREAMS = [[0, 3], [1, 2]]
SPACING, ORIGIN, DIRECTION = (0.7, 0.7, 3.0), (-10.0, 20.0, 5.0), (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class Known(nn.Module):
    """Puts out its input, in reverse order of channels."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.shape[1])
        return x.flip(1)


@pytest.fixture
def predictor(make_plans, make_dataset_json):
    """Channel 1 is made of 3, 2 of 0, 0 of 2 and 3 of 1, all exactly, in normalised intensities."""
    plans = make_plans(2, channels=4, patch_size=(8, 8))
    (name, configuration), *_ = plans["configurations"].items()
    configuration["spacing"] = [0.7, 0.7]
    configuration["use_mask_for_norm"] = [True] * 4
    pair = GeneratorPair.of_transition(
        STREAMS,
        n_stages=1, features_per_stage=[2], conv_op=nn.Conv2d, kernel_sizes=[3], strides=[1], n_conv_per_stage=[1],
        n_conv_per_stage_decoder=[],
    )  # fmt: skip
    pair.branches = nn.ModuleDict({name: Known() for name in "AB"})
    manager = PlansManager(plans)
    predictor = SynthesisPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        pair, manager, manager.get_configuration(name), [pair.state_dict()], make_dataset_json("labels", 4),
        "nnUNetTrainerCMFT", None,
    )  # fmt: skip
    return predictor


@pytest.fixture
def images(tmp_path):
    """`(case, channels)` → files with an empty border, and the arrays by channel."""
    (tmp_path / "in").mkdir()

    def write(case, channels):
        rng = np.random.default_rng(len(case))
        arrays = {}
        for channel in range(4):
            array = np.zeros((3, 12, 10), np.float32)
            array[:, 2:-2, 2:-2] = rng.uniform(50, 150, (3, 8, 6)) * (channel + 1)
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(SPACING), image.SetOrigin(ORIGIN), image.SetDirection(DIRECTION)
            if channel in channels:
                sitk.WriteImage(image, str(tmp_path / "in" / f"{case}_{channel:04d}.nii.gz"))
            arrays[channel] = array
        return arrays

    return write


def normalised(array):
    inside = array[array != 0]
    return np.where(array != 0, (array - inside.mean()) / inside.std(), 0)


def read(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def test_only_what_is_missing_is_made_and_goes_by_the_number_in_the_name(predictor, images, tmp_path, run):
    arrays = images("anna", [0, 3])
    run(predictor)
    assert sorted(path.name for path in (tmp_path / "out").glob("anna*")) == ["anna_0001.nii.gz", "anna_0002.nii.gz"]
    for channel, source in ((1, 3), (2, 0)):
        file = tmp_path / "out" / f"anna_{channel:04d}.nii.gz"
        np.testing.assert_allclose(read(file), normalised(arrays[source]), atol=1e-4)
        image = sitk.ReadImage(str(file))
        assert image.GetPixelID() == sitk.sitkFloat32
        for ours, theirs in (
            (image.GetSpacing(), SPACING),
            (image.GetOrigin(), ORIGIN),
            (image.GetDirection(), DIRECTION),
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert set(predictor.network.branches["A"].seen) == {2} and not predictor.network.branches["B"].seen
    told = json.loads((tmp_path / "out" / "synthesised.json").read_text())["anna"]
    assert "normalised" in told.pop("scale")
    assert told == {
        "made_of": ["T1", "FLAIR"],
        "made": {"anna_0001.nii.gz": "T1c", "anna_0002.nii.gz": "T2"},
        "trainer": "nnUNetTrainerCMFT",
    }


def test_cases_may_lack_different_streams(predictor, images, tmp_path, run):
    images("anna", [0, 3]), images("ben", [1, 2]), images("eve", [0, 1, 2, 3])
    run(predictor)
    made = sorted(path.name[:-7] for path in (tmp_path / "out").glob("*.nii.gz"))
    assert made == ["anna_0001", "anna_0002", "ben_0000", "ben_0003", *(f"eve_{channel:04d}" for channel in range(4))]
    assert predictor.network.given == "AB" and len(predictor.dataset_json["channel_names"]) == 4


def test_reference_intensities_map_what_is_inside_and_leave_the_background(predictor, images, tmp_path, capsys, run):
    arrays = images("anna", [0, 3])
    run(predictor, "--reference_intensities", 300, 40, -5, 2)
    for channel, source, mean, sd in ((1, 3, 300, 40), (2, 0, -5, 2)):
        expected = np.where(arrays[source] != 0, normalised(arrays[source]) * sd + mean, 0)
        np.testing.assert_allclose(
            read(tmp_path / "out" / f"anna_{channel:04d}.nii.gz"), expected, rtol=1e-4, atol=1e-3
        )
    assert "mapped to mean and SD 300 40 -5 2" in capsys.readouterr().out


def test_outside_of_the_crop_there_is_nothing_where_normalisation_looks_at_all_voxels(predictor, images, tmp_path, run):
    """Else the border would be mean tissue, and whoever reads the image next would crop it otherwise."""
    predictor.configuration_manager.configuration["use_mask_for_norm"] = [False] * 4
    arrays = images("anna", [0, 3])
    run(predictor, "--reference_intensities", 300, 40)
    box = np.argwhere((arrays[0] != 0) | (arrays[3] != 0))
    crop = tuple(slice(first, last + 1) for first, last in zip(box.min(0), box.max(0)))
    for channel, source in ((1, 3), (2, 0)):
        inside = arrays[source][crop]
        expected = np.zeros_like(arrays[source])
        expected[crop] = (inside - inside.mean()) / inside.std() * 40 + 300
        made = read(tmp_path / "out" / f"anna_{channel:04d}.nii.gz")
        np.testing.assert_allclose(made, expected, rtol=1e-3, atol=1e-2)
        assert (made == 0).any()


def test_what_is_there_is_not_made_again(predictor, images, tmp_path, run):
    images("anna", [0, 3])
    run(predictor)
    images("eve", [1, 2])
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("anna*")}
    run(predictor, "--continue_prediction", "--reference_intensities", 300, 40)
    assert {file: file.stat().st_mtime_ns for file in files} == files
    told = json.loads((tmp_path / "out" / "synthesised.json").read_text())
    assert "normalised" in told["anna"]["scale"] and "mapped" in told["eve"]["scale"]


@pytest.mark.parametrize(
    "channels, flags, sentence",
    [
        ([0, 1], [], r"anna_0003.nii.gz \(FLAIR\) is missing: case anna needs all channels of at least one stream"),
        ([2], [], r"anna_0001.nii.gz \(T1c\) is missing"),
        ([0, 3], ["--reference_intensities", 1, 2, 3], "3 numbers, but 2 channels are made of anna: give one MEAN SD"),
        ([0, 3], ["--reference_intensities", 1, 0], "a standard deviation that is not positive"),
        ([0, 3], ["--save_probabilities"], "there are no probabilities to save"),
    ],
)
def test_refusals_before_anything_is_written(predictor, images, tmp_path, channels, flags, sentence, run):
    images("anna", channels)
    with pytest.raises(XModalError, match=sentence):
        run(predictor, *flags)
    assert not (tmp_path / "out").exists()


def test_a_channel_too_many(predictor, images, tmp_path, run):
    images("anna", [0, 3])
    (tmp_path / "in" / "anna_0004.nii.gz").touch()
    with pytest.raises(XModalError, match=r"anna_0004.nii.gz is one channel too many: dataset.json names 4 \(T1, T1c"):
        run(predictor)


def test_inputs_are_not_replaced(predictor, images, tmp_path, run):
    images("eve", range(4))
    for spelling in (tmp_path / "in", tmp_path / "out" / ".." / "in"):
        with pytest.raises(XModalError, match="eve_0000.nii.gz is an input and would be replaced"):
            run(predictor, "-o", spelling)
    (tmp_path / "in" / "eve_0001.nii.gz").unlink()
    (tmp_path / "in" / "eve_0002.nii.gz").unlink()
    run(predictor, "-o", tmp_path / "in")  # completes the folder
    assert len(list((tmp_path / "in").glob("*.nii.gz"))) == 4


def test_an_image_of_a_stream_that_is_made_is_not_replaced(predictor, images, tmp_path, run):
    images("anna", [0, 2, 3])
    before = (tmp_path / "in" / "anna_0002.nii.gz").read_bytes()
    with pytest.raises(XModalError, match="anna_0002.nii.gz is an input and would be replaced"):
        run(predictor, "-o", tmp_path / "in")
    assert (tmp_path / "in" / "anna_0002.nii.gz").read_bytes() == before


def test_a_subset_of_channels_keeps_what_belongs_to_each(make_plans, make_dataset_json):
    plans = make_plans(channels=4)
    (name, configuration), *_ = plans["configurations"].items()
    configuration["normalization_schemes"] = [
        "CTNormalization",
        "ZScoreNormalization",
        "NoNormalization",
        "ZScoreNormalization",
    ]
    configuration["use_mask_for_norm"] = [False, True, False, False]
    plans["configurations"]["2d_b4"] = {"inherits_from": name, "batch_size": 4}
    for channel, intensities in plans["foreground_intensity_properties_per_channel"].items():
        intensities["mean"] = float(channel)
    before = json.dumps(plans)
    manager, subset, dataset_json = with_channels_only(
        [2, 0], PlansManager(plans), "2d_b4", make_dataset_json(channels=4)
    )
    assert subset.normalization_schemes == ["NoNormalization", "CTNormalization"]
    assert subset.use_mask_for_norm == [False, False] and subset.batch_size == 4
    means = {key: value["mean"] for key, value in manager.foreground_intensity_properties_per_channel.items()}
    assert means == {"0": 2.0, "1": 0.0}
    assert dataset_json["channel_names"] == {"0": "T2", "1": "T1"}
    assert json.dumps(plans) == before


def test_calls_that_share_the_cases_tell_in_files_of_their_own(predictor, images, tmp_path, run):
    images("anna", [0, 3]), images("ben", [1, 2])
    for part in (0, 1):
        run(predictor, "-num_parts", 2, "-part_id", part)
    told = [json.loads((tmp_path / "out" / f"synthesised_part{part}of2.json").read_text()) for part in (0, 1)]
    assert [list(cases) for cases in told] == [["anna"], ["ben"]]
