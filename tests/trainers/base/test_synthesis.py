"""CMFT and self-reconstruction: what every trainer must do, and what their checkpoints are for."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from fast_ones import one_fast_in
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_xmodal import trainers
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.generator import Generator
from nnunet_xmodal.networks.patch_discriminator import PatchDiscriminator
from nnunet_xmodal.trainers import TRAINERS
from nnunet_xmodal.trainers.base.synthesis import SynthesisTrainer

NAMES = [name for name in TRAINERS if issubclass(getattr(trainers, name), SynthesisTrainer)]
CMFF = [name for name in TRAINERS if "CMFF" in name]
ARCHITECTURES = [(2, False), (2, True), (3, False), (3, True)]
PLAIN_AND_RESIDUAL = [(2, False), (3, True)]
KINDS = ["labels", "labels+ignore", "regions", "regions+ignore"]
PAIRS = [[0, 1], [2, 3]]


@pytest.fixture
def make(make_trainer, make_plans, make_dataset_json):
    def make(name, dimensions=2, residual=False, kind="labels", streams=PAIRS, **options):
        channels = sum(map(len, streams))
        patch = {"patch_size": ({2: 16, 3: 8}[dimensions],) * dimensions}
        plans = make_plans(dimensions, residual, channels, streams=streams, **patch | options)
        return make_trainer(name, plans, make_dataset_json(kind, channels))

    return make


def batch_for(trainer, seed=0):
    """What the trainer's own loader hands out."""
    n = 2 * trainer.batch_size if "Unpaired" in type(trainer).__name__ else trainer.batch_size
    patch = trainer.configuration_manager.patch_size
    data = torch.randn(n, trainer.num_input_channels, *patch, generator=torch.Generator().manual_seed(seed))
    return {"data": data, "target": torch.zeros(n, 1, *patch, dtype=torch.int16), "keys": [str(i) for i in range(n)]}


def state_of(trainer):
    """Every number that a step may change."""
    checkpoint = trainer.checkpoint()
    kept = ("network_weights", "discriminator_weights", "optimizer_state", "lr_scheduler_state")
    return {name: deepcopy(checkpoint[name]) for name in kept if name in checkpoint}


@pytest.mark.parametrize(
    "name, dimensions, residual", one_fast_in(4, [(n, *of) for of in PLAIN_AND_RESIDUAL for n in NAMES])
)
def test_builds_learns_saves_and_loads(make, name, dimensions, residual, own_task):
    trainer = make(name, dimensions, residual)
    batch = batch_for(trainer)
    x = batch["data"]
    before = trainer.network.eval()(x)
    trainer.network.train()
    losses = trainer.train_step(batch)
    assert all(np.isfinite(value) for value in losses.values())
    learning = {name for name, parameter in trainer.network.named_parameters() if parameter.requires_grad}
    assert not learning.intersection(own_task.without_gradient(trainer.network))
    made = trainer.network.eval()(x)
    assert made.shape == x.shape and not torch.allclose(made, before)
    pickles = not residual  # nnU-Net's own residual blocks hold a lambda
    own_task.is_saved_and_loaded(trainer, lambda: make(name, dimensions, residual), x, state_of, pickles)


@pytest.mark.parametrize(
    "name, kind",
    one_fast_in(4, [*((name, "labels") for name in NAMES), *(("nnUNetTrainerCMFT", kind) for kind in KINDS[1:])]),
)
def test_trains_and_validates_whatever_the_labels(make, name, kind):
    trainer = make(name, kind=kind)
    batch = batch_for(trainer)
    losses = trainer.train_step(batch)
    parts = "cycle" if "cycle" in losses else "loss"
    first = losses[parts]
    for _ in range(6):
        last = trainer.train_step(batch)[parts]
    assert last < first
    with torch.no_grad():
        result = trainer.validation_step(batch)
    assert 0 < result["score"] < 1 and result["loss"] > 0


def test_weights_are_the_same_however_labels_are_permuted(make, assert_equal):
    """A step reads no target at all."""
    first, second = make("nnUNetTrainerCMFT"), make("nnUNetTrainerCMFT")
    second.restore(deepcopy(first.checkpoint()))
    batch = batch_for(first)
    first.train_step(batch)
    second.train_step({"data": batch["data"], "keys": batch["keys"]})
    assert_equal(state_of(first), state_of(second))


@pytest.mark.parametrize(
    "name, killed_after", one_fast_in(6, [*((name, 2) for name in NAMES), ("nnUNetTrainerCMFT", 1)])
)
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(make, name, killed_after, own_task):
    own_task.resumes_bit_for_bit(lambda: make(name), batch_for, 3, 1, killed_after, state_of)


@pytest.mark.parametrize(
    "name, target, dimensions, residual",
    one_fast_in(
        3,
        [
            *(("nnUNetTrainerCMFT", target, 2, False) for target in CMFF),
            *(("nnUNetTrainerCMFT", "nnUNetTrainerCMFF", *architecture) for architecture in ARCHITECTURES[1:]),
            ("nnUNetTrainerSelfReconstruction", "nnUNetTrainerCMFF", 2, False),
            ("nnUNetTrainerSelfReconstruction", "nnUNetTrainerCMFF", 3, True),
        ],
    ),
)
def test_nnunets_own_loading_starts_each_branch_from_the_generator_that_reads_its_stream(
    make, name, target, dimensions, residual, tmp_path
):
    """Every tensor by name but those of the heads; with two channels each, shapes would not tell a swap."""
    pretraining = make(name, dimensions, residual)
    pretraining.train_step(batch_for(pretraining))
    file = tmp_path / "checkpoint_final.pth"
    pretraining.save_checkpoint(str(file))
    assert all(value.device.type == "cpu" for value in torch.load(file, weights_only=False)["network_weights"].values())
    trainer = make(target, dimensions, residual)
    load_pretrained_weights(trainer.network, str(file))
    for branch, network in trainer.network.branches.items():
        generator = pretraining.network.branches[branch].state_dict()
        for parameter, value in network.state_dict().items():
            if ".seg_layers." not in f".{parameter}":
                assert torch.equal(value, generator[parameter]), (branch, parameter)


@pytest.mark.parametrize("streams", [[[2, 3], [0, 1]], [[0, 2], [1, 3]]])
def test_weights_of_other_streams_are_refused(make, streams, tmp_path):
    file = str(tmp_path / "checkpoint_final.pth")
    make("nnUNetTrainerCMFT").save_checkpoint(file)
    trainer = make("nnUNetTrainerCMFF", streams=streams)
    with pytest.raises(XModalError, match=r"were trained on the streams \[\[0, 1\], \[2, 3\]\], but"):
        load_pretrained_weights(trainer.network, file)
    with pytest.raises(XModalError, match="restore the streams, or train anew"):
        make("nnUNetTrainerCMFT", streams=streams).load_checkpoint(file)


def test_generators_and_discriminators_have_streams_of_their_own(make):
    trainer = make("nnUNetTrainerCMFT", streams=[[1], [0, 2, 3]])
    pair = trainer.network
    channels = {name: (branch.input_channels, len(pair.makes[name])) for name, branch in pair.branches.items()}
    assert channels == {"A": (1, 3), "B": (3, 1)}
    assert {name: d.layers[0].in_channels for name, d in trainer.discriminators.items()} == {"A": 1, "B": 3}
    assert all(isinstance(generator, Generator) for generator in trainer.network.branches.values())
    assert all(isinstance(discriminator, PatchDiscriminator) for discriminator in trainer.discriminators.values())
    x = torch.randn(2, 4, 16, 16)
    made = trainer.network.eval()(x)
    assert torch.equal(made[:, [0, 2, 3]], trainer.network.branches["A"](x[:, [1]]))
    assert torch.equal(made[:, [1]], trainer.network.branches["B"](x[:, [0, 2, 3]]))
    trainer.network.given = "A"
    assert torch.equal(trainer.network(x[:, [1]]), made[:, [0, 2, 3]])


def test_checkpointed_activations_change_nothing_but_memory(make, assert_equal):
    plain, checkpointed = make("nnUNetTrainerCMFT"), make("nnUNetTrainerCMFTCheckpointed")
    checkpointed.restore(deepcopy(plain.checkpoint()))
    losses = [[trainer.train_step(batch_for(trainer, seed)) for seed in range(3)] for trainer in (plain, checkpointed)]
    assert losses[0] == losses[1]
    assert_equal(state_of(plain), state_of(checkpointed))


def test_unpaired_streams_come_from_different_halves_of_the_batch(make):
    paired, unpaired = make("nnUNetTrainerCMFT"), make("nnUNetTrainerCMFTUnpaired")
    unpaired.restore(deepcopy(paired.checkpoint()))
    batch = batch_for(unpaired)
    n = unpaired.batch_size
    put_together = torch.cat((batch["data"][:n, [0, 1]], batch["data"][n:, [2, 3]]), 1)
    assert unpaired.train_step(batch) == paired.train_step(batch | {"data": put_together})


def test_a_loss_that_turns_nan_stops_the_training(make, own_task):
    trainer = make("nnUNetTrainerCMFT")
    weight = next(trainer.discriminators["A"].parameters())
    message = r"the loss \(loss, G_B_to_A, D_A\) turned NaN or infinite in epoch 0"
    own_task.stops_at_nan(trainer, weight, batch_for, message)


def test_nan_in_a_batch_names_the_case(make, own_task):
    own_task.names_the_case_with_nan(make("nnUNetTrainerCMFT"), batch_for)


@pytest.mark.parametrize("name", NAMES)
def test_any_other_number_of_streams_than_two_is_refused(make, name):
    entry = r'write for example "xmodal": \{"streams": \[\[0\], \[1, 2\]\]\} into dataset.json'
    with pytest.raises(XModalError, match=rf"exactly two streams .* hold 3, \[\[0\], \[1\], \[2\]\]: {entry}"):
        make(name, streams=[[0], [1], [2]])


def test_nnunets_prediction_says_which_command_to_use(make, own_task):
    trainer = make("nnUNetTrainerCMFT")
    own_task.refuses_stock_prediction(trainer, "images", weights=trainer.checkpoint()["network_weights"])


def test_a_second_stage_is_refused(make_trainer, make_plans, make_dataset_json):
    plans = make_plans(channels=2)
    (name, configuration), *_ = plans["configurations"].items()
    plans["configurations"][name] = configuration | {"previous_stage": "3d_lowres"}
    with pytest.raises(XModalError, match="2d is the second stage of a cascade"):
        make_trainer("nnUNetTrainerCMFT", plans, make_dataset_json())


def test_the_identity_term_is_part_of_the_loss(make):
    trainer = make("nnUNetTrainerCMFTIdentity")
    losses = trainer.train_step(batch_for(trainer))
    adversarial = losses["G_A_to_B"] + losses["G_B_to_A"]
    assert losses["loss"] == pytest.approx(adversarial + 10 * losses["cycle"] + 5 * losses["identity"], rel=1e-5)
    assert losses["identity"] > 0 and make("nnUNetTrainerCMFT").train_step(batch_for(trainer))["identity"] == 0
    with pytest.raises(XModalError, match="needs streams with as many channels, and these have 1 and 3"):
        make("nnUNetTrainerCMFTIdentity", streams=[[0], [1, 2, 3]])


@pytest.mark.parametrize("name", one_fast_in(4, NAMES))
def test_nothing_stays_on_the_cpu_where_there_is_a_gpu(make, pretended_gpu, name, own_task):
    own_task.is_all_on_a_gpu(pretended_gpu, lambda: make(name), batch_for)
