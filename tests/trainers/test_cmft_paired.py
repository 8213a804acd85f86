"""CMFT with the L1 distance to the real image of the same case, whatever the streams' numbers of channels."""

import pytest
import torch

from nnunet_xmodal.losses.cycle_gan import paired_difference, translate_both_ways

SPLITS = ([[0], [1]], [[1], [0, 2, 3]], [[0, 1, 2], [3]])


@pytest.fixture
def make(make_trainer, make_plans):
    return lambda name, streams: make_trainer(name, make_plans(channels=sum(map(len, streams)), streams=streams))


def batch_of(channels):
    return {"data": torch.randn(2, channels, 16, 16), "keys": ["a", "b"]}


@pytest.mark.parametrize("streams", SPLITS, ids=str)
def test_the_distance_is_part_of_the_loss(make, streams):
    trainer = make("nnUNetTrainerCMFTPaired", streams)
    losses = trainer.train_step(batch_of(sum(map(len, streams))))
    adversarial = losses["G_A_to_B"] + losses["G_B_to_A"]
    assert trainer.paired_weight == 10 and losses["paired"] > 0
    assert losses["loss"] == pytest.approx(adversarial + 10 * losses["cycle"] + 10 * losses["paired"], rel=1e-5)


def test_the_papers_letter_has_no_such_term(make):
    trainer = make("nnUNetTrainerCMFT", SPLITS[0])
    assert trainer.paired_weight == 0 and trainer.train_step(batch_of(2))["paired"] == 0


def test_it_is_measured_to_the_other_stream_of_the_case():
    a, b = torch.zeros(2, 1, 4, 4), torch.ones(2, 3, 4, 4)
    made_b, made_a = torch.full_like(b, 3.0), torch.full_like(a, -5.0)
    translations = translate_both_ways(lambda _: made_b, lambda _: made_a, a, b)
    assert paired_difference(translations) == 2 + 5  # |3 − 1| and |−5 − 0|


@pytest.mark.parametrize("streams", SPLITS, ids=str)
def test_l1_alone_trains_generators_and_nothing_else(make, streams):
    trainer = make("nnUNetTrainerCMFTPairedL1", streams)
    batch = batch_of(sum(map(len, streams)))
    a, b = trainer.real_images(batch)
    with torch.no_grad():
        made_b, made_a = trainer.network.branches["A"](a), trainer.network.branches["B"](b)
    losses = trainer.train_step(batch)
    assert losses["A_to_B"] == pytest.approx(float((made_b - b).abs().mean()), rel=1e-5)
    assert losses["B_to_A"] == pytest.approx(float((made_a - a).abs().mean()), rel=1e-5)
    assert losses["loss"] == pytest.approx(losses["A_to_B"] + losses["B_to_A"], rel=1e-5)
    assert list(trainer.optimizers) == ["generators"] and "discriminator_weights" not in trainer.checkpoint()
