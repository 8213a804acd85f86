"""Trainers of registration networks: what every trainer must do, and that they learn to undo perturbations."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from fast_ones import one_fast_in

from nnunet_xmodal import trainers
from nnunet_xmodal.datasets.joint_min_max import joint_min_max, label_in_range_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import padded, sre, surface_points
from nnunet_xmodal.geometry.warp import warp
from nnunet_xmodal.losses.surface_displacement import SurfaceDisplacement
from nnunet_xmodal.networks import dv_net, ms_reg
from nnunet_xmodal.tasks.registration.perturbations import random_perturbations
from nnunet_xmodal.tasks.registration.predictor import RegistrationPredictor
from nnunet_xmodal.tasks.registration.surroundings import amid, voxels_around
from nnunet_xmodal.tasks.registration.turning_point import matrix_about, parameters_about
from nnunet_xmodal.trainers import TRAINERS
from nnunet_xmodal.trainers.base import registration as registration_base
from nnunet_xmodal.trainers.base.registration import RegistrationTrainer
from nnunet_xmodal.trainers.base.schedule import one_cycle

NAMES = [name for name in TRAINERS if issubclass(getattr(trainers, name), RegistrationTrainer)]
# one of every loss and network, whose descendants train by the same code
OF_THEIR_OWN = [
    f"nnUNetTrainer{name}" for name in ("AttentionReg", "AttentionRegPaper", "FeatureReg", "CorrespondenceReg")
]
KILLED_AFTER = [(name, epochs) for name in NAMES for epochs in (1, 3) if epochs == 3 or name in OF_THEIR_OWN]
GRID = (8, 16, 16)
SPACING = (5.0, 3.0, 3.0)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Whatever the width of a network, its trainer is the same; tests/networks/test_rivals.py is about the real."""
    monkeypatch.setattr(ms_reg, "CARDINALITY", 2)
    monkeypatch.setattr(ms_reg, "PLANES", 8)
    monkeypatch.setattr(dv_net, "WIDTHS", (32, 32, 64, 64, 64))
    monkeypatch.setattr(dv_net, "LAST_WIDTH", 64)


@pytest.fixture
def make(make_trainer, make_plans):
    def make(name, channels=2, grid=GRID, initialize=True):
        plans = make_plans(dimensions=3, channels=channels, patch_size=grid, batch_size=4)
        plans["configurations"]["3d_fullres"]["architecture"] = {
            "network_class_name": "nnunet_xmodal.networks.attention_reg.AttentionReg",
            "arch_kwargs": {"grid": list(grid)},
            "_kw_requires_import": [],
        }
        return make_trainer(name, plans, initialize=initialize)

    return make


def batch_for(trainer, seed=0):
    """What the trainer's own loader hands out: an organ that is bright in one image and dark in the other."""
    return deepcopy(_batch(trainer.batch_size, seed))


@cache
def _batch(n, seed):
    generator = torch.Generator().manual_seed(seed)
    axes = [(torch.arange(side) - (side - 1) / 2) * mm for side, mm in zip(GRID, SPACING)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    radii = 10 + 5 * torch.rand(n, 3, 1, 1, 1, generator=generator)
    label = ((z / radii[:, 0]) ** 2 + (y / radii[:, 1]) ** 2 + (x / radii[:, 2]) ** 2 < 1).float()[:, None]
    around = [more for more in reversed(voxels_around(GRID, SPACING)) for _ in range(2)]
    moving = torch.nn.functional.pad(50 - 50 * label, around, value=50)
    points, exists = padded([surface_points(one[0], SPACING).float() for one in label])
    return {
        "data": 100 * label + 5 * torch.randn(label.shape, generator=generator),
        "moving": moving + 5 * torch.randn(moving.shape, generator=generator),
        "label": label,
        "points": points,
        "exists": exists,
        "spacing": torch.tensor(SPACING).expand(n, 3),
        "keys": [f"case_{index}" for index in range(n)],
    }


@pytest.fixture
def same_perturbation(monkeypatch):
    """Every step meets the same one."""
    drawn = {}

    def once(points, exists, sre_range):
        if not drawn:
            drawn["p"] = random_perturbations(points, exists, sre_range)
        return drawn["p"]

    monkeypatch.setattr(registration_base, "random_perturbations", once)


@pytest.mark.parametrize("name", one_fast_in(5, NAMES))
def test_builds_learns_saves_and_loads(make, name, same_perturbation, own_task):
    steps = 10 if "Correspondence" in name else 40  # a rigid fit has nothing to learn about what a rotation is
    name = f"{name}_1epochs_{steps}its"  # the learning rate's whole cycle
    trainer = make(name)
    trainer.network.train()
    batch = batch_for(trainer)
    losses = [trainer.train_step(batch)["loss"] for _ in range(steps)]
    assert losses[-1] < 0.7 * losses[0]
    assert not own_task.without_gradient(trainer.network)

    x = trainer.network_input(batch, torch.eye(4).expand(4, 4, 4))
    assert trainer.network.eval()(x).shape == (4, 6)
    own_task.is_saved_and_loaded(trainer, lambda: make(name), x)


@pytest.mark.parametrize("name, killed_after", one_fast_in(9, KILLED_AFTER))
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(make, name, killed_after, own_task):
    own_task.resumes_bit_for_bit(lambda: make(name), batch_for, epochs=4, steps=2, killed_after=killed_after)


def start_of(trainer, batch):
    """A start of every case: base `(B, 4, 4)` and its six numbers `(B, 6)`."""
    point = trainer.turning_point(batch)
    perturbation = random_perturbations(batch["points"] - point[:, None], batch["exists"], trainer.sre_range)
    return matrix_about(perturbation, point), perturbation


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_that_of_the_definition(make, name):
    trainer = make(name)
    batch = batch_for(trainer)
    base, _ = start_of(trainer, batch)
    x = trainer.network_input(batch, base)
    moving = amid(warp(batch["moving"], base, batch["spacing"]), GRID)
    fixed = label_in_range_of(batch["label"], moving) if "Label" in name else batch["data"]
    torch.testing.assert_close(x, joint_min_max(torch.cat((fixed, moving), 1)), atol=1e-5, rtol=0)
    assert x.amin() == 0 and x.amax() == 1
    largest = 8 if "Stage2" in name else 20
    assert sre(base, batch["points"], batch["exists"]).max() <= largest + 0.01


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_network_has_no_error(make, name):
    trainer = make(name)
    batch = batch_for(trainer)
    base, batch["perturbation"] = start_of(trainer, batch)
    target = parameters_about(rigid_transform.inverse(base), trainer.turning_point(batch))
    before = sre(base, batch["points"], batch["exists"]).mean().item()
    trainer.network = lambda x, spacing: target
    result = trainer.validation_step(batch)
    assert result["loss"] < 1e-6 and result["sre"] < 1e-3 and result["score"] > 0.999
    trainer.network = lambda x, spacing: 0 * target
    assert trainer.validation_step(batch)["sre"] == pytest.approx(before, rel=1e-5)


def test_every_step_has_a_rate_of_its_own(make):
    trainer = make("nnUNetTrainerAttentionReg_2epochs_10its")
    batch, rates = batch_for(trainer), []
    for epoch in range(2):
        trainer.lr_scheduler.step(epoch)
        for _ in range(10):
            rates.append(trainer.optimizer.param_groups[0]["lr"])
            trainer.train_step(batch)
    assert rates == pytest.approx([one_cycle(2e-3, 20)(step) for step in range(20)])


def test_the_default_loss_is_the_squared_displacement_of_the_surface(make):
    trainer = make("nnUNetTrainerAttentionReg")
    batch = batch_for(trainer)
    base, _ = start_of(trainer, batch)
    loss = trainer.loss_of(torch.zeros(4, 6), base, batch)
    torch.testing.assert_close(loss, SurfaceDisplacement()(base, batch["points"], batch["exists"]))
    assert trainer.rate()(45) == pytest.approx(2e-3)  # of 300 epochs


def test_the_papers_loss_is_the_mean_squared_error_of_six_numbers_about_the_corner(make):
    trainer = make("nnUNetTrainerAttentionRegPaper")
    batch = batch_for(trainer)
    base, perturbation = start_of(trainer, batch)
    corner = trainer.turning_point(batch)
    torch.testing.assert_close(corner[0], torch.tensor([-22.5, -22.5, -17.5]))
    moved = rigid_transform.apply(base, corner[:, None])[:, 0] - corner
    torch.testing.assert_close(moved, perturbation[:, :3], atol=1e-4, rtol=0)
    target = parameters_about(rigid_transform.inverse(base), corner)
    output = torch.randn(4, 6)
    torch.testing.assert_close(trainer.loss_of(output, base, batch), (output - target).square().mean())


def test_the_papers_learning_rate_falls_three_times_to_three_tenths(make, own_task):
    trainer = make("nnUNetTrainerAttentionRegPaper")
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (300, 66)
    rates = own_task.rates(trainer, (0, 119, 120, 169, 170, 249, 250, 299))
    assert rates == pytest.approx([1e-3 * 0.3**drops for drops in (0, 0, 1, 1, 2, 2, 3, 3)], rel=1e-9)


@pytest.mark.parametrize("name", one_fast_in(2, NAMES))
def test_autocast_to_bfloat16_is_finite(make, name, own_task):
    own_task.is_finite_in_bfloat16(make(name), batch_for)


def test_gradients_that_a_grad_scaler_scales_are_the_same(make, own_task):
    own_task.has_the_same_gradients_when_scaled(lambda: make("nnUNetTrainerFeatureReg"), batch_for)


def test_weights_are_what_tells_the_trainers_apart(make):
    parameters = {name: sum(p.numel() for p in make(name).network.parameters()) for name in NAMES}
    block = 2 * 2192
    assert parameters["nnUNetTrainerAttentionReg"] - parameters["nnUNetTrainerFeatureReg"] == block
    assert len(set(parameters.values())) == 5 and parameters["nnUNetTrainerCorrespondenceReg"] < 130_000


@pytest.mark.parametrize("name", one_fast_in(3, NAMES))
def test_the_papers_parameters_and_the_cost_of_the_network_that_runs(make, name, own_task):
    parameters, flops = own_task.cost(make(name, grid=(32, 96, 96), initialize=False))
    if name.startswith(("nnUNetTrainerAttentionReg", "nnUNetTrainerFeatureReg")):
        assert parameters == (1_244_393 if "Feature" in name else 1_248_777)
    small = make(name)
    assert own_task.cost(small)[1] == own_task.counted_flops(small.network, 1, 2, *GRID) < flops


def test_another_number_of_channels_is_refused(make):
    with pytest.raises(XModalError, match="reads two channels, the fixed image and then the moving one, .* has 3"):
        make("nnUNetTrainerAttentionReg", channels=3)


def test_nan_in_a_batch_names_the_case(make, own_task):
    own_task.names_the_case_with_nan(make("nnUNetTrainerAttentionReg"), batch_for)


def test_a_loss_that_turns_nan_stops_the_training(make, own_task):
    trainer = make("nnUNetTrainerAttentionReg")
    message = r"the loss \(loss\) turned NaN or infinite in epoch 0: go on from"
    own_task.stops_at_nan(trainer, trainer.network.regressor[-1].bias, batch_for, message)


@pytest.mark.parametrize("name", NAMES)
def test_nnunets_prediction_says_which_command_to_use(make, name, own_task):
    trainer = make(name)
    assert trainer.predictor_class is RegistrationPredictor
    own_task.refuses_stock_prediction(trainer, "transforms")


def test_deep_supervision_cannot_be_switched(make):
    trainer = make("nnUNetTrainerAttentionReg")
    trainer.set_deep_supervision_enabled(True)
    assert trainer.network.eval()(torch.zeros(1, 2, *GRID)).shape == (1, 6)


@pytest.mark.parametrize("name", one_fast_in(4, NAMES))
def test_nothing_stays_on_the_cpu_where_there_is_a_gpu(make, pretended_gpu, name, own_task, monkeypatch):
    def drawn(points, exists, sre):  # until an error is as wanted, which takes values
        return torch.zeros(len(points), 6, device=points.device)

    monkeypatch.setattr(registration_base, "random_perturbations", drawn)

    def with_start(trainer):
        return batch_for(trainer) | {"perturbation": torch.zeros(trainer.batch_size, 6)}

    own_task.is_all_on_a_gpu(pretended_gpu, lambda: make(name), with_start)
