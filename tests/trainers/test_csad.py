"""The two readings of CSAD, and when its distillation counts."""

import json
from pathlib import Path

import pytest
import torch

from nnunet_xmodal import trainers
from nnunet_xmodal.tasks.segmentation.attention_report import WeighedLosses, gradients_of_losses

VARIANTS = ["", "NoSCFF", "PLC", "EarlyFusion", "LateFusion"]


@pytest.fixture
def make(make_trainer, make_plans):
    return lambda name, **arguments: make_trainer(name, make_plans(**arguments))


READINGS = {
    "nnUNetTrainerCSAD": (0.03, "std", "pairs", True, 1, 0.3, 0.2, "channels"),
    "nnUNetTrainerCSADPrinted": (1.0, "sum", "positions", False, 1, 0.0, 0.0, "channels"),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("reading", READINGS)
def test_a_variant_reads_as_its_proposal_does(make, reading, variant):
    trainer = make(reading + variant)
    alpha, normalisation, scale, stop_gradient, first_level, start, ramp, correlation_scale = READINGS[reading]
    assert (trainer.distillation_start, trainer.distillation_ramp) == (start, ramp)
    assert (trainer.loss.alpha, trainer.loss.distillation_loss.scale) == (alpha, scale)
    for paths in (trainer.network.distillation, trainer.measured_paths()):
        assert paths.amgb.normalisation == normalisation
        assert (paths.stop_gradient, paths.first_level) == (stop_gradient, first_level)
    if hasattr(trainer.network.encoder, "fusion") and trainer.network.encoder.fusion is not None:
        assert trainer.network.encoder.fusion.correlation_scale == correlation_scale


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_readings_have_the_same_weights(make, variant):
    """So that a checkpoint of the printed reading, which once had the default's name, still predicts."""
    default, printed = (make(f"nnUNetTrainerCSAD{reading}{variant}").network for reading in ("", "Printed"))
    default.load_state_dict(printed.state_dict())
    for network in (default, printed):
        network.eval()
        network.decoder.deep_supervision = False
    x = torch.randn(1, 2, 16, 16)
    if variant != "LateFusion":
        assert torch.equal(default(x), printed(x))


def test_attributes_reach_their_blocks(make):
    names = {"first_level": 2, "stop_gradient": False, "correlation_scale": "sqrt", "distillation_scale": "positions"}
    trainer = make(type("nnUNetTrainerOther", (trainers.nnUNetTrainerCSAD,), names))
    assert trainer.network.distillation.first_level == 2 and not trainer.network.distillation.stop_gradient
    assert trainer.network.encoder.fusion.correlation_scale == "sqrt"
    assert trainer.loss.distillation_loss.scale == "positions"


@pytest.mark.parametrize(
    "start, ramp, expected",
    [
        (0.3, 0.2, [0, 0, 0, 0, 0.5, 1, 1, 1, 1, 1]),
        (0.3, 0.0, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]),
        (0.0, 0.0, [1] * 10),
        (0.0, 1.0, [n / 10 for n in range(10)]),
    ],
)
def test_the_weight_is_0_then_grows_then_stays(make, start, ramp, expected):
    trainer = make("nnUNetTrainerCSAD")
    trainer.num_epochs, trainer.distillation_start, trainer.distillation_ramp = 10, start, ramp
    shares = []
    for trainer.current_epoch in range(10):
        shares.append(trainer.distillation_share())
    assert shares == pytest.approx(expected, abs=1e-9)


def batch_of(trainer):
    target = [torch.randint(0, 3, (2, 1, side, side), dtype=torch.int16) for side in (16, 8)]
    return {"data": torch.randn(2, 2, 16, 16), "target": target, "keys": ["a", "b"]}


def test_the_weight_grows_from_step_to_step_and_follows_the_epoch_of_a_continued_training(make):
    trainer, continued = make("nnUNetTrainerCSAD"), make("nnUNetTrainerCSAD")
    for one in (trainer, continued):
        one.num_epochs, one.num_iterations_per_epoch = 10, 4
        one.on_train_epoch_start()
    batch = batch_of(trainer)
    shares = {}
    for trainer.current_epoch in (3, 4):
        trainer.on_train_epoch_start()
        for step in range(4):
            trainer.train_step(batch)
            shares[trainer.current_epoch, step] = trainer.loss.share
    assert list(shares.values()) == pytest.approx([n / 8 for n in range(8)], abs=1e-9)
    continued.current_epoch = 4
    continued.on_train_epoch_start()
    continued.train_step(batch)
    assert continued.loss.share == shares[4, 0]


def test_before_its_start_the_distillation_changes_no_gradient(make):
    """Equal weights, one batch: concatenated streams with a distillation of weight 0 and without one."""
    distilled, plain = make("nnUNetTrainerCSADNoSCFF"), make("nnUNetTrainerMultiStream")
    plain.network.load_state_dict(distilled.network.state_dict())
    batch = batch_of(plain)
    for trainer in (distilled, plain):
        trainer.network.train()
        trainer.train_step(batch)
    for a, b in zip(distilled.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(a, b)
    distilled.current_epoch = distilled.num_epochs - 1
    for trainer in (distilled, plain):
        trainer.train_step(batch)
    assert not all(torch.equal(a, b) for a, b in zip(distilled.network.parameters(), plain.network.parameters()))


def test_the_distillation_is_held_at_a_share_of_the_segmentations_gradient(make):
    trainer = make("nnUNetTrainerCSADGradientShare")
    trainer.num_epochs, trainer.num_iterations_per_epoch = 10, 20
    batch = batch_of(trainer)
    trainer.on_train_epoch_start()
    trainer.train_step(batch)
    assert trainer.loss.alpha == trainer.alpha  # before the start of the distillation nothing is measured
    trainer.current_epoch = 5
    trainer.on_train_epoch_start()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.train_step(batch)
    held = trainer.loss.alpha
    trainer.network.load_state_dict(before)
    one = [level[:1] for level in batch["target"]]
    network = trainer.network
    losses = WeighedLosses(trainer.segmentation_loss, network.distillation, trainer.loss.distillation_loss, held)
    measured = gradients_of_losses(network, losses, batch["data"][:1], one)
    assert measured["gradient_ratio"] == pytest.approx(trainer.distillation_gradient_share, rel=1e-3)
    assert trainer.distillation_weight == held != trainer.alpha
    for _ in range(9):
        trainer.train_step(batch)
        assert trainer.loss.alpha == held
    trainer.train_step(batch)
    assert trainer.loss.alpha != held


@pytest.mark.parametrize("name", ["nnUNetTrainerMultiStream", "nnUNetTrainerCSAD", "nnUNetTrainerCSADPrinted"])
def test_four_samples_of_as_many_batches_as_that_takes_are_reported(make, name):
    trainer = make(name)
    trainer.dataloader_train = iter(2 * [batch_of(trainer), batch_of(trainer)])
    for when in ("start", "end"):
        trainer._report_attention(when, trainer._samples())
    report = json.loads((Path(trainer.output_folder) / "attention.json").read_text())
    assert report["start"]["samples"] == report["end"]["samples"] == 4
    assert report["alive"] is False  # nothing was trained in between
    assert next(trainer.dataloader_train, None) is None


@pytest.mark.parametrize("kind", ["labels", "labels+ignore", "regions", "regions+ignore"])
def test_the_foreground_is_what_has_a_label_or_region_and_is_not_ignored(
    make_trainer, make_plans, make_dataset_json, kind
):
    trainer = make_trainer("nnUNetTrainerMultiStream", make_plans(), make_dataset_json(kind))
    labels = torch.tensor([[[[0, 1, 2, 3 if kind.endswith("+ignore") else 0]]]])
    if kind.startswith("regions"):
        labels = torch.cat([labels % 3 > 0, labels == 2, *([labels == 3] if kind.endswith("+ignore") else [])], 1)
    assert trainer.foreground(labels).tolist() == [[[False, True, True, False]]]
