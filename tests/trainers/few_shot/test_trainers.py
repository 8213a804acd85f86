"""Trainers of few-shot segmentation: what every trainer must do, and what tells them apart."""

import pickle
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from fast_ones import one_fast_in
from few_shot_episodes import SIZE, batch_for, with_support
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import trainers
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.networks.blocks.local_prototypes import ClassPrototypes
from nnunet_xmodal.tasks.few_shot.episode_transforms import ALPNET, unchanged
from nnunet_xmodal.tasks.few_shot.predictor import FewShotPredictor
from nnunet_xmodal.trainers import TRAINERS
from nnunet_xmodal.trainers.base.few_shot import FewShotTrainer

NAMES = [name for name in TRAINERS if issubclass(getattr(trainers, name), FewShotTrainer)]
FORMER = [name for name in NAMES if "OneSuperpixel" in name]
LITE = [name for name in NAMES if name.endswith("Lite")]
SMALL = [name for name in NAMES if name.endswith("R18") and name not in FORMER]
NO_POSITIONS = [name for name in SMALL + LITE if "RPNet" not in name]  # a mask's, which takes values
LARGE = [name for name in NAMES if not name.endswith(("R18", "Lite")) and name not in FORMER]


@pytest.mark.parametrize("name", one_fast_in(4, SMALL))
def test_builds_learns_saves_and_loads(make, name, own_task):
    trainer = with_support(make(name))
    trainer.network.train()
    batch = batch_for(trainer)
    losses = [trainer.train_step(batch)["loss"] for _ in range(8)]
    assert losses[-1] < 0.7 * losses[0]
    assert not own_task.without_gradient(trainer.network)
    trainer.network.eval()
    score = trainer.validation_step(batch)["score"]
    assert 0 <= score <= 1

    assert trainer.network(batch["data"]).shape == (1, 3, *SIZE)
    own_task.is_saved_and_loaded(trainer, lambda: make(name), batch["data"])


def build(name, trainer):
    """On torch's meta device, as prediction builds it."""
    with torch.device("meta"):
        return getattr(trainers, name).build_network_architecture(
            trainer.plans_manager,
            trainer.configuration_manager,
            trainer.num_input_channels,
            trainer.label_manager.num_segmentation_heads,
            False,
        )


@pytest.mark.parametrize("name, channels", one_fast_in(8, [*((name, 1) for name in LARGE), ("nnUNetTrainerCRTP", 3)]))
def test_on_resnet_101_and_on_resnet_18_it_is_the_same_method(make, name, channels):
    trainer = make(f"{name}R18", channels, size=(256, 256))
    large, small = build(name, trainer), trainer.network
    assert sum(parameter.numel() for parameter in large.backbone.parameters()) == 43_024_448
    shapes = [
        {key: value.shape for key, value in network.state_dict().items() if not key.startswith("backbone.")}
        for network in (large, small)
    ]
    assert shapes[0] == shapes[1]
    assert large(torch.empty(1, channels, 256, 256, device="meta")).shape == (1, 3, 256, 256)
    own = {key: value for key, value in vars(getattr(trainers, f"{name}R18")).items() if not key.startswith("__")}
    assert not own and getattr(trainers, name).weights == "coco" and type(trainer).weights == "imagenet"


@pytest.mark.parametrize(
    "name, steps", [pytest.param("nnUNetTrainerCRTP", 4, marks=pytest.mark.slow), ("nnUNetTrainerCRTPLite", 6)]
)
def test_large_backbones_learn(make, name, steps):
    trainer = make(name)
    trainer.network.train()
    losses = [trainer.train_step(batch_for(trainer))["loss"] for _ in range(steps)]
    assert losses[-1] < losses[0]


def test_what_tells_the_trainers_apart(make):
    extra = {
        name: sum(p.numel() for key, p in make(name).network.named_parameters() if not key.startswith("backbone."))
        for name in SMALL
    }
    gate = 2 * 256 * 16 + 256 + 16
    assert extra == {
        "nnUNetTrainerCRTPR18": 2 * gate + 2 * (256 + 1) * 3 * 256,
        "nnUNetTrainerCRBaseR18": 2 * gate,
        "nnUNetTrainerCRMaskR18": 2 * gate,
        "nnUNetTrainerRPNetR18": 2 * 9 * 256**2 + (256 + 121) * 64 + 2 * (256 + 256 + 64),
        "nnUNetTrainerCRAPNetR18": 2 * 2 * (256 + 1) * 4 * 256,
        "nnUNetTrainerALPR18": 0,
        "nnUNetTrainerPANetR18": 0,
    }
    assert [make(f"nnUNetTrainerCR{which}R18").network.cross_reference.with_mask for which in ("Base", "Mask")] == [
        False,
        True,
    ]
    optimisers = {"Adam": (0.98, 0.0, unchanged), "SGD": (0.95, 5e-4, ALPNET)}
    for name in SMALL:
        trainer = make(name)
        kind = type(trainer.optimizer).__name__
        assert kind == ("SGD" if "ALP" in name or "PANet" in name else "Adam")
        assert (trainer.decay, trainer.optimizer.param_groups[0]["weight_decay"], trainer.transform_support) == (
            optimisers[kind]
        )
        trainer.lr_scheduler.step(50)
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * optimisers[kind][0] ** 50)
        assert (trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.batch_size) == (100, 1000, 1)
        assert trainer.oversample_foreground_percent == 0


@pytest.mark.parametrize(  # Adam, SGD
    "name, killed_after", one_fast_in(2, [("nnUNetTrainerCRTPR18", 1), ("nnUNetTrainerALPR18", 2)])
)
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(make, name, killed_after, own_task):
    own_task.resumes_bit_for_bit(lambda: make(name), batch_for, epochs=3, steps=2, killed_after=killed_after)


@pytest.mark.parametrize("name", one_fast_in(3, SMALL))
def test_autocast_to_bfloat16_is_finite(make, name, own_task):
    own_task.is_finite_in_bfloat16(make(name), batch_for)


def test_gradients_that_a_grad_scaler_scales_are_the_same(make, own_task):
    own_task.has_the_same_gradients_when_scaled(lambda: make("nnUNetTrainerALPR18"), batch_for)


@pytest.mark.slow
def test_a_step_compiles_without_a_graph_break(make):
    torch._dynamo.reset()
    trainer = make("nnUNetTrainerCRTPR18")
    trainer.network.train()
    expected = deepcopy(trainer.network)
    batch = batch_for(trainer)
    arguments = (batch["data"], batch["support"], batch["support_mask"])
    trainer.network = torch.compile(trainer.network, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(trainer.network(*arguments), expected(*arguments)):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert np.isfinite(trainer.train_step(batch)["loss"])
    with_support(trainer)
    trainer.set_deep_supervision_enabled(True)  # nnU-Net does, whatever wraps the network
    assert trainer.network.eval()(batch["data"]).shape == (1, 3, *SIZE)


@pytest.mark.parametrize("channels", one_fast_in(2, [4, 2]))
def test_several_channels(make, channels):
    trainer = with_support(make("nnUNetTrainerCRTPR18", channels))
    trainer.network.train()
    batch = batch_for(trainer)
    assert batch["support"].shape == (1, 1, channels, *SIZE)
    losses = [trainer.train_step(batch)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0]
    assert trainer.network.eval()(batch["data"]).shape == (1, 3, *SIZE)


@pytest.mark.parametrize("kind", ["labels", "labels+ignore", "regions", "regions+ignore"])
def test_labels_and_regions_have_the_outputs_that_nnunet_expects(make, kind):
    trainer = with_support(make("nnUNetTrainerPANetR18", kind=kind))
    regions = kind.startswith("regions")
    assert trainer.network.labels == 2 and trainer.network.background == (not regions)
    assert trainer.plans_manager.plans["xmodal"]["regions"] == regions
    out = trainer.network.eval()(batch_for(trainer)["data"])
    assert out.shape[1] == trainer.label_manager.num_segmentation_heads == (2 if regions else 3)
    # prediction knows nothing but the plans of the model folder
    written = pickle.loads(pickle.dumps(trainer.plans_manager.plans))
    manager = PlansManager(written)
    rebuilt = trainer.build_network_architecture(
        manager, manager.get_configuration("2d"), 1, trainer.label_manager.num_segmentation_heads, False
    )
    rebuilt.load_state_dict(trainer.network.state_dict())
    assert torch.equal(rebuilt.eval()(batch_for(trainer)["data"]), out)


@pytest.mark.parametrize("name", LITE)
def test_on_efficientnet_lite_it_is_the_same_method(make, name):
    trainer = make(name.replace("Lite", "R18"))
    lite, resnet = build(name, trainer), trainer.network
    shapes = [
        {key: value.shape for key, value in network.state_dict().items() if not key.startswith("backbone.")}
        for network in (lite, resnet)
    ]
    assert shapes[0] == shapes[1] and lite.backbone.features == resnet.backbone.features == 256
    own = {key: value for key, value in vars(getattr(trainers, name)).items() if not key.startswith("__")}
    assert not own and getattr(trainers, name).weights == "imagenet"


def test_what_was_done_at_first_has_names_of_its_own(make):
    """One superpixel, windows of fixed size, weights in both terms, 0 as padding; nothing else differs."""
    for name in FORMER:
        kind = getattr(trainers, name)
        now = getattr(trainers, name.replace("OneSuperpixel", ""))
        assert (kind.superpixels_per_pair, now.superpixels_per_pair) == (1, 8)
        assert (kind.alignment_weights, now.alignment_weights) == ((0.05, 1.0), (1.0, 1.0))
        assert (kind.padded_by_background, now.padded_by_background) == (False, True)
        for prototypes, windows in ((kind.prototypes(), (4, 2)), (now.prototypes(), (None, None))):
            if "PANet" in name:
                assert type(prototypes) is ClassPrototypes
            else:
                assert (prototypes.training_window, prototypes.window) == windows
        others = set(dir(FewShotTrainer)) - {"superpixels_per_pair", "alignment_weights", "padded_by_background"}
        for attribute in ("initial_lr", "decay", "momentum", "weight_decay", "transform_support", "backbone"):
            assert attribute in others and getattr(kind, attribute) == getattr(now, attribute)
    trainer = make("nnUNetTrainerCRTPOneSuperpixelR18")
    assert trainer.loss.alignment_weights == (0.05, 1.0) and not trainer.network.padded_by_background
    assert np.isfinite(trainer.train_step(batch_for(trainer))["loss"])


def built_from(trainer, plans):
    """The network as prediction builds it from the plans of a model folder."""
    manager = PlansManager(pickle.loads(pickle.dumps(plans)))
    return trainer.build_network_architecture(manager, manager.get_configuration("2d"), 1, 3, False)


@pytest.mark.parametrize("name", ["nnUNetTrainerCRTPR18", "nnUNetTrainerCRTPOneSuperpixelR18"])
def test_models_from_before_predict_as_they_were_trained(make, name, tmp_path):
    """Their plans say nothing about how slices are seen."""
    trainer = with_support(make(name))
    plans = trainer.plans_manager.plans
    as_now = built_from(trainer, plans)
    assert as_now.padded_by_background == ("One" not in name)
    assert as_now.prototypes.window == (2 if "One" in name else None)

    old_plans = {**plans, "xmodal": {key: plans["xmodal"][key] for key in ("streams", "regions")}}
    as_before = built_from(trainer, old_plans)
    assert (as_before.prototypes.training_window, as_before.prototypes.window) == (4, 2)
    assert not as_before.padded_by_background

    file = tmp_path / "checkpoint_final.pth"
    trainer.save_checkpoint(str(file))
    checkpoint = torch.load(file, weights_only=False)
    assert checkpoint["init_args"]["plans"]["xmodal"]["few_shot_sight"] == 2
    del checkpoint["init_args"]["plans"]["xmodal"]["few_shot_sight"]
    torch.save(checkpoint, file)
    resumed = make(name)
    resumed.load_checkpoint(str(file))
    assert (resumed.network.prototypes.window, resumed.network.padded_by_background) == (2, False)
    assert "few_shot_sight" not in resumed.plans_manager.plans["xmodal"]
    x = batch_for(trainer)["data"]
    as_before.load_state_dict(trainer.network.state_dict())
    assert torch.equal(resumed.network.eval()(x), as_before.eval()(x))


def test_old_and_new_folds_do_not_share_a_folder(make):
    trainer = make("nnUNetTrainerPANetR18")
    model = Path(trainer.output_folder_base)
    (model / "fold_3").mkdir(parents=True)
    (model / "fold_3" / "checkpoint_final.pth").touch()
    write_json({"xmodal": {}}, model / "plans.json")
    with pytest.raises(XModalError, match="fold_3 was trained with windows of fixed size and 0 as padding"):
        trainer.on_train_start()


def test_further_shots_are_a_class_attribute(make):
    class FiveShots(trainers.nnUNetTrainerALPR18):
        shots = 5

    assert make(FiveShots).network.support.exists.shape == (2, 3, 5)
    assert make("nnUNetTrainerALPR18").network.support.exists.shape == (2, 3, 1)


def test_nan_in_a_batch_names_the_case(make, own_task):
    own_task.names_the_case_with_nan(make("nnUNetTrainerALPR18"), batch_for)


def test_a_loss_that_turns_nan_stops_the_training(make, own_task):
    trainer = make("nnUNetTrainerALPR18")
    weight = trainer.network.backbone.project.weight
    own_task.stops_at_nan(trainer, weight, batch_for, "turned NaN or infinite in epoch 0: go on from")


def test_every_gpu_has_episodes_of_its_own(make, monkeypatch):
    trainer = make("nnUNetTrainerALPR18", initialize=False)
    trainer.is_ddp = True  # nnU-Net would not share one episode among several
    trainer._set_batch_size_and_oversample()
    assert trainer.batch_size == 1


@pytest.mark.parametrize("name", SMALL)
def test_its_predictor_knows_positions(make, name):
    assert make(name, initialize=False).predictor_class is FewShotPredictor


def test_a_validation_by_itself_turns_cases_as_the_training_did(make, tmp_path):
    """`--val` starts no training, which is where axes are noted."""
    trainer, file = with_support(make("nnUNetTrainerPANetR18")), str(tmp_path / "checkpoint_final.pth")
    trainer.plans_manager.plans["xmodal"]["stored_axes"] = "LPI"
    trainer.save_checkpoint(file)
    alone = make("nnUNetTrainerPANetR18")
    assert alone.along_one_axis(None).axes is None
    alone.load_checkpoint(file)
    assert alone.along_one_axis(None).axes == "LPI"


@pytest.mark.parametrize("name", one_fast_in(6, NO_POSITIONS))
def test_nothing_stays_on_the_cpu_where_there_is_a_gpu(make, pretended_gpu, name, own_task):
    own_task.is_all_on_a_gpu(pretended_gpu, lambda: make(name), batch_for)


@pytest.mark.parametrize("name, compiled", [("nnUNetTrainerRPNetR18", False), ("nnUNetTrainerCRTPR18", True)])
def test_networks_that_read_positions_back_are_not_compiled(make, name, compiled, monkeypatch):
    trainer = make(name)
    monkeypatch.setenv("nnUNet_compile", "t")
    monkeypatch.setattr(trainer, "device", torch.device("cuda"))
    assert trainer._do_i_compile() == compiled
