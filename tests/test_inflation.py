"""Checkpoints of nnU-Net, 2D and 3D, that CMFF starts from through `-pretrained_weights`."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from fast_ones import one_fast_in
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xmodal import trainers
from nnunet_xmodal.commands.inflate import main
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.inflation import inflate
from nnunet_xmodal.trainers import TRAINERS

DATASET = "Dataset999_Tiny"
STREAMS = [[0, 1], [2, 3]]
CMFF = [name for name in TRAINERS if "CMFF" in name]


@pytest.fixture
def checkpoint(make_trainer, make_plans, tmp_path):
    """`(dimensions, residual, channel names, …)` → file that stock nnU-Net wrote, and its weights."""

    def write(dimensions=2, residual=False, channels=("R", "G", "B"), trainer=nnUNetTrainer, streams=None, **plans):
        dataset_json = {
            "channel_names": {str(index): name for index, name in enumerate(channels)},
            "labels": {"background": 0, "cat": 1},
            "numTraining": 5,
            "file_ending": ".png",
        }
        made = make_plans(dimensions, residual, len(channels), streams=streams, **plans)
        trained = make_trainer(trainer, made, dataset_json)
        for key in trained.logger.my_fantastic_logging if hasattr(trained.logger, "my_fantastic_logging") else ():
            trained.logger.my_fantastic_logging[key] = [np.float64(0.5), np.float32(1)]
        trained._best_ema = np.float64(0.25)
        file = tmp_path / f"{type(trained).__name__}_{dimensions}_{residual}_{len(list(tmp_path.glob('*.pth')))}.pth"
        trained.save_checkpoint(str(file))
        return file, trained.network.state_dict()

    return write


@pytest.fixture
def planned(make_plans, make_dataset_json, nnunet_folders):
    """`(dimensions, residual, …)` → plans file of a dataset of two streams, T1+T1c and T2+FLAIR."""

    def write(dimensions=3, residual=False, **options):
        folder = nnunet_folders / "nnUNet_preprocessed" / DATASET
        folder.mkdir(parents=True, exist_ok=True)
        plans = make_plans(dimensions, residual, 4, streams=STREAMS, **options)
        (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(make_dataset_json(channels=4)))
        return folder / "nnUNetPlans.json"

    return write


@pytest.fixture
def start(make_trainer, make_dataset_json):
    """`(checkpoint, plans file, trainer, configuration)` → trainer that nnU-Net's own loading has started from it."""

    def start(file, plans_file, name="nnUNetTrainerCMFF", configuration=None):
        plans = json.loads(plans_file.read_text())
        if configuration is not None:  # first, as make_trainer takes it
            others = plans["configurations"]
            plans["configurations"] = {configuration: others[configuration], **others}
            for entry in others.values():
                others[configuration].setdefault("data_identifier", entry.get("data_identifier"))
        trainer = make_trainer(name, plans, make_dataset_json(channels=4))
        load_pretrained_weights(trainer.network, str(file))
        return trainer

    return start


@pytest.mark.parametrize("residual", [False, True])
def test_a_2d_network_of_colour_images_starts_both_3d_branches(checkpoint, planned, start, tmp_path, residual):
    file, weights = checkpoint(2, residual)
    plans_file = planned(3, residual)
    inflate([file], tmp_path / "start.pth", DATASET, "3d_fullres")
    trainer = start(tmp_path / "start.pth", plans_file)
    first = next(name for name, value in weights.items() if value.ndim == 4 and value.shape[1] == 3)
    for branch in trainer.network.branches.values():
        state = branch.state_dict()
        for name, flat in weights.items():
            if "seg_layers." in name or (flat.ndim == 4 and flat.shape[1] == 3):
                continue
            value = state[name]
            if flat.ndim != 4:
                assert torch.equal(value, flat)
            elif "transpconvs" in name:
                assert torch.equal(value, flat.unsqueeze(2).expand_as(value))
            else:
                torch.testing.assert_close(value.sum(2), flat)
                torch.testing.assert_close(value[:, :, 0], value[:, :, -1])
        torch.testing.assert_close(state[first].sum(2)[:, 0], weights[first].mean(1) * 3 / 2)
        torch.testing.assert_close(state[first][:, 0], state[first][:, 1])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_network_of_the_same_data_is_copied_channel_by_channel(checkpoint, planned, start, tmp_path, dimensions):
    file, weights = checkpoint(dimensions, channels=("FLAIR", "T1", "T1c", "T2"))
    plans_file = planned(dimensions)
    configuration = {2: "2d", 3: "3d_fullres"}[dimensions]
    inflate([file], tmp_path / "start.pth", DATASET, configuration)
    trainer = start(tmp_path / "start.pth", plans_file)
    name = "encoder.stages.0.0.convs.0.conv.weight"
    for branch, columns in zip("AB", ([1, 2], [3, 0])):
        state = trainer.network.branches[branch].state_dict()
        assert torch.equal(state[name], weights[name][:, columns])
        other = "decoder.stages.0.convs.0.conv.weight"
        assert torch.equal(state[other], weights[other])


def test_two_checkpoints_are_one_for_each_branch_and_say_how_they_are_read(
    checkpoint, planned, start, tmp_path, capsys
):
    (file_a, a), (file_b, b) = checkpoint(2, channels=("x", "y")), checkpoint(2, channels=("z",))
    plans_file = planned()
    inflate([file_a, file_b], tmp_path / "start.pth", DATASET, "3d_fullres")
    network = start(tmp_path / "start.pth", plans_file).network
    name = "encoder.stages.0.0.convs.0.conv.weight"
    torch.testing.assert_close(network.branches["A"].state_dict()[name].sum(2), a[name])
    torch.testing.assert_close(network.branches["B"].state_dict()[name].sum(2).sum(1), b[name].sum(1))
    said = capsys.readouterr().out
    assert f"Branch A (T1+T1c) starts from {file_a}, 2D, by its 2 channels in their order." in said
    assert f"Branch B (T2+FLAIR) starts from {file_b}, 2D, by the mean of its 1 channel." in said
    assert f"-pretrained_weights {tmp_path / 'start.pth'}" in said


def test_cmft_of_slices_starts_cmff_of_volumes_stream_by_stream(checkpoint, planned, start, tmp_path):
    file, weights = checkpoint(
        2, channels=("T1", "T1c", "T2", "FLAIR"), trainer=trainers.nnUNetTrainerCMFT, streams=STREAMS
    )
    plans_file = planned()
    inflate([file], tmp_path / "start.pth", DATASET, "3d_fullres")
    network = start(tmp_path / "start.pth", plans_file).network
    name = "encoder.stages.0.0.convs.0.conv.weight"
    for branch in "AB":
        torch.testing.assert_close(
            network.branches[branch].state_dict()[name].sum(2), weights[f"branches.{branch}.{name}"]
        )


@pytest.mark.parametrize("name", one_fast_in(3, CMFF))
def test_every_trainer_of_the_family_starts_from_it_and_says_so(checkpoint, planned, start, tmp_path, name):
    file, _ = checkpoint(2)
    plans_file = planned()
    inflate([file], tmp_path / "start.pth", DATASET, "3d_fullres")
    trainer = start(tmp_path / "start.pth", plans_file, name)
    assert not torch.equal(trainer._random_weights, trainer._some_weights())


def test_what_is_written_is_data_and_nothing_else(checkpoint, planned, tmp_path):
    file, _ = checkpoint(2)
    planned()
    inflate([file], tmp_path / "start.pth", DATASET, "3d_fullres")
    content = torch.load(tmp_path / "start.pth", weights_only=True)
    assert content["made_of"] == [str(file)] * 2
    assert all(value.device.type == "cpu" for value in content["network_weights"].values())


@pytest.mark.parametrize(
    "dimensions, residual, target", one_fast_in(2, [(2, False, 3), (2, True, 3), (2, False, 2), (3, True, 3)])
)
def test_a_network_of_other_levels_brings_a_configuration(
    checkpoint, planned, start, tmp_path, dimensions, residual, target
):
    """As stock 2d and 3d plans are: more levels, and wider ones."""
    size = (32,) * dimensions
    file, weights = checkpoint(dimensions, residual, widths=(4, 8, 16, 16), patch_size=size)
    plans_file = planned(target, patch_size=(12,) * target, widths=(4, 8, 8))
    before = json.loads(plans_file.read_text())
    configuration = {2: "2d", 3: "3d_fullres"}[target]
    with pytest.raises(XModalError, match="none of this configuration's branches: .*; --new_configuration NAME writes"):
        inflate([file], tmp_path / "start.pth", DATASET, configuration)
    assert not (tmp_path / "start.pth").exists() and json.loads(plans_file.read_text()) == before
    inflate([file], tmp_path / "start.pth", DATASET, configuration, new_configuration="inflated")
    plans = json.loads(plans_file.read_text())
    entry = plans["configurations"].pop("inflated")
    assert plans == before
    kwargs = entry["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"] == [4, 8, 16, 16] and len(kwargs["strides"]) == kwargs["n_stages"] == 4
    assert kwargs["conv_op"] == f"torch.nn.modules.conv.Conv{target}d"
    assert entry["patch_size"][-1] == 16 and entry["inherits_from"] == configuration
    if dimensions == 2 and target == 3:
        assert kwargs["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2], [1, 2, 2]]
        assert entry["patch_size"] == [12, 16, 16]
    plans["configurations"]["inflated"] = entry
    plans_file.write_text(json.dumps(plans))
    trainer = start(tmp_path / "start.pth", plans_file, configuration="inflated")
    assert trainer.configuration_name == "inflated"
    state = trainer.network.branches["B"].state_dict()
    assert state["decoder.stages.0.convs.0.conv.weight"].shape[:2] == (16, 32)


def test_a_checkpoint_that_does_not_tell_its_architecture_brings_no_configuration(checkpoint, planned, tmp_path):
    _, weights = checkpoint(2)
    torch.save({"network_weights": weights}, tmp_path / "bare.pth")
    planned()
    with pytest.raises(XModalError, match="bare.pth does not describe the architecture of its network: plan a config"):
        inflate([tmp_path / "bare.pth"], tmp_path / "start.pth", DATASET, "3d_fullres", new_configuration="new")


def test_weights_without_a_description_are_enough_where_they_fit(checkpoint, planned, start, tmp_path):
    _, weights = checkpoint(2)
    torch.save({"network_weights": weights}, tmp_path / "bare.pth")
    plans_file = planned()
    inflate([tmp_path / "bare.pth"], tmp_path / "start.pth", DATASET, "3d_fullres")
    start(tmp_path / "start.pth", plans_file)


class Opened:
    """Something that a file may name and that is no number."""

    def __reduce__(self):
        return (print, ("opened",))


def test_files_that_cannot_be_used_are_named_and_nothing_is_written(checkpoint, planned, tmp_path, capsys):
    file, weights = checkpoint(2)
    solid, _ = checkpoint(3)
    plans_file = planned(2)
    plans = json.loads(plans_file.read_text())
    plans["configurations"]["2d_new"] = {"inherits_from": "2d"}
    plans_file.write_text(json.dumps(plans))
    before = plans_file.read_text()
    (tmp_path / "text.pth").write_text("no checkpoint")
    torch.save({"network_weights": weights, "more": Opened()}, tmp_path / "code.pth")
    torch.save({"network_weights": {"linear.weight": torch.zeros(2, 2, 3, 3)}}, tmp_path / "other.pth")
    (tmp_path / "there.pth").touch()
    for arguments, sentence in (
        (([tmp_path / "none.pth"], tmp_path / "o.pth", DATASET, "2d"), "none.pth is missing: name a checkpoint"),
        (([tmp_path / "text.pth"], tmp_path / "o.pth", DATASET, "2d"), "text.pth is no readable checkpoint"),
        (([tmp_path / "code.pth"], tmp_path / "o.pth", DATASET, "2d"), "code.pth holds "),
        (([tmp_path / "other.pth"], tmp_path / "o.pth", DATASET, "2d"), "other.pth is of a network that is none of"),
        (([solid], tmp_path / "o.pth", DATASET, "2d"), "is of a 3D network, and 2d is 2D: name a configuration"),
        (
            ([file] * 3, tmp_path / "o.pth", DATASET, "2d"),
            "one checkpoint for both branches, or A's and B's, and got 3",
        ),
        (([file], tmp_path / "there.pth", DATASET, "2d"), "there.pth exists: name another file with -o, or add"),
        (([file], tmp_path / "o.pth", DATASET, "3d_lowres"), "has no configuration 3d_lowres .*: take one of 2d"),
        (([file], tmp_path / "o.pth", "Dataset998_None", "2d"), "nnUNetPlans.json is missing: plan the dataset"),
        (([file], tmp_path / "o.pth", 998, "2d"), "there is no single dataset 998"),
        (([file], tmp_path / "o.pth", "VOC", "2d"), "there is no single dataset VOC"),
        (([file], tmp_path, DATASET, "2d"), "is a folder: name a file with -o"),
        (([file], tmp_path / "there.pth" / "o.pth", DATASET, "2d"), "there.pth is no folder that o.pth could be"),
        (([file], tmp_path / "o.pth", DATASET, "2d", "nnUNetPlans", "2d_new"), "has a configuration 2d_new: name ano"),
        (([file], tmp_path / "o.pth", DATASET, "2d", "nnUNetPlans", "2d", True), "2d would inherit from itself"),
        (([file], tmp_path / "o.pth", DATASET, "2d_new", "nnUNetPlans", "2d", True), "2d would inherit from itself"),
        (([file], tmp_path / "o.pth", DATASET, "2d", "nnUNetPlans", "a/b"), "'a/b' cannot be part of a model folder"),
        (([file], tmp_path / "o.pth", DATASET, "2d", "nnUNetPlans", "a__b"), "'a__b' cannot be part of a model fol"),
    ):
        with pytest.raises(XModalError, match=sentence):
            inflate(*arguments)
    assert not (tmp_path / "o.pth").exists() and plans_file.read_text() == before
    assert "opened" not in capsys.readouterr().out


def test_three_streams_are_refused_with_the_entry_to_write(checkpoint, planned, tmp_path):
    file, _ = checkpoint(2)
    plans_file = planned()
    plans = json.loads(plans_file.read_text())
    plans["xmodal"]["streams"] = [[0], [1], [2, 3]]
    plans_file.write_text(json.dumps(plans))
    with pytest.raises(XModalError, match="exactly two streams"):
        inflate([file], tmp_path / "start.pth", DATASET, "3d_fullres")


def test_a_second_stage_is_no_configuration_to_start_from_images(checkpoint, planned, tmp_path):
    file, _ = checkpoint(2)
    plans_file = planned()
    plans = json.loads(plans_file.read_text())
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    plans_file.write_text(json.dumps(plans))
    with pytest.raises(XModalError, match="no configuration 3d_cascade_fullres that starts from images: take one of 3"):
        inflate([file], tmp_path / "start.pth", DATASET, "3d_cascade_fullres")


def test_the_command_writes_what_the_function_does(checkpoint, planned, start, tmp_path, capsys):
    file, _ = checkpoint(2)
    plans_file = planned()
    words = ["-i", file, "-o", tmp_path / "new" / "start.pth", "-d", "999", "-c", "3d_fullres"]
    (plans_file.parents[2] / "nnUNet_raw" / DATASET).mkdir(exist_ok=True)
    main([str(word) for word in words])
    start(tmp_path / "new" / "start.pth", plans_file)
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 2 and "add --overwrite" in capsys.readouterr().err
    main([str(word) for word in [*words, "--overwrite"]])


def test_the_streams_channels_are_those_of_the_plans(checkpoint, planned, tmp_path):
    """Weights name their streams, and CMFF of other streams refuses them."""
    file, _ = checkpoint(2)
    planned()
    inflate([file], tmp_path / "start.pth", DATASET, "3d_fullres")
    encoded = torch.load(tmp_path / "start.pth", weights_only=True)["network_weights"]["grouping.encoded"]
    assert json.loads(bytes(encoded.tolist())) == deepcopy(STREAMS)
