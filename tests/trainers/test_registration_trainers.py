"""Trainers of registration networks: what every trainer must do, and that they learn to undo perturbations."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel  # torch does not count what the CPU's fused kernel does
from torch.utils.flop_counter import FlopCounterMode

from nnunet_xmodal import trainers
from nnunet_xmodal.comparison.cost import network_cost
from nnunet_xmodal.datasets.joint_min_max import joint_min_max, label_in_range_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import padded, sre, surface_points
from nnunet_xmodal.geometry.warp import warp
from nnunet_xmodal.prediction.building import building
from nnunet_xmodal.tasks.registration.perturbations import random_perturbations
from nnunet_xmodal.tasks.registration.predictor import RegistrationPredictor
from nnunet_xmodal.trainers import TRAINERS
from nnunet_xmodal.trainers.base import registration as registration_base
from nnunet_xmodal.trainers.base.registration import RegistrationTrainer

NAMES = [name for name in TRAINERS if issubclass(getattr(trainers, name), RegistrationTrainer)]
GRID = (8, 16, 16)
SPACING = (5.0, 3.0, 3.0)


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
    generator = torch.Generator().manual_seed(seed)
    n = trainer.batch_size
    axes = [(torch.arange(side) - (side - 1) / 2) * mm for side, mm in zip(GRID, SPACING)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    radii = 10 + 5 * torch.rand(n, 3, 1, 1, 1, generator=generator)
    label = ((z / radii[:, 0]) ** 2 + (y / radii[:, 1]) ** 2 + (x / radii[:, 2]) ** 2 < 1).float()[:, None]
    noise = torch.randn(n, 2, *GRID, generator=generator)
    points, exists = padded([surface_points(one[0], SPACING).float() for one in label])
    return {
        "data": torch.cat((100 * label, 50 - 50 * label), 1) + 5 * noise,
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


def state_of(trainer):
    return deepcopy((trainer.network.state_dict(), trainer.optimizer.state_dict()))


@pytest.mark.parametrize("name", NAMES)
def test_builds_learns_saves_and_loads(make, name, same_perturbation, tmp_path, assert_equal):
    trainer = make(name)
    trainer.network.train()
    batch = batch_for(trainer)
    losses = [trainer.train_step(batch)["loss"] for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]
    for parameter_name, parameter in trainer.network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name

    x = joint_min_max(batch["data"])
    expected = trainer.network.eval()(x)
    assert expected.shape == (4, 6)
    file = str(tmp_path / "checkpoint_final.pth")
    trainer.save_checkpoint(file)
    assert [path.name for path in tmp_path.glob("checkpoint*")] == ["checkpoint_final.pth"]
    other = make(name)
    other.load_checkpoint(file)
    assert torch.equal(other.network.eval()(x), expected)
    assert_equal(state_of(other), state_of(trainer))
    assert pickle.loads(pickle.dumps(type(trainer))) is type(trainer)
    assert torch.equal(pickle.loads(pickle.dumps(trainer.network))(x), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(make, name, killed_after, tmp_path, assert_equal):
    epochs, steps = 4, 2

    def epoch(trainer, number):
        trainer.current_epoch = number
        trainer.lr_scheduler.step(number)
        trainer.network.train()
        losses = []
        for step in range(steps):
            torch.manual_seed(10 * number + step)  # perturbations are drawn anew
            losses.append(trainer.train_step(batch_for(trainer, seed=10 * number + step)))
        return losses

    whole = make(name)
    start = deepcopy(whole.network.state_dict())
    expected = [epoch(whole, number) for number in range(epochs)]
    killed = make(name)
    killed.network.load_state_dict(start)
    losses = [epoch(killed, number) for number in range(killed_after)]
    file = str(tmp_path / "checkpoint_latest.pth")
    killed.save_checkpoint(file)
    del killed
    resumed = make(name)
    resumed.load_checkpoint(file)
    assert resumed.current_epoch == killed_after
    losses += [epoch(resumed, number) for number in range(killed_after, epochs)]
    assert losses == expected
    assert_equal(state_of(resumed), state_of(whole))


@pytest.mark.parametrize("name", NAMES)
def test_input_and_target_are_those_of_the_definition(make, name):
    trainer = make(name)
    batch = batch_for(trainer)
    perturbation = random_perturbations(batch["points"], batch["exists"], trainer.sre_range)
    base = rigid_transform.matrix(perturbation)
    x, target = trainer.input_and_target(batch, perturbation)
    moving = warp(batch["data"][:, 1:], base, batch["spacing"])
    fixed = label_in_range_of(batch["label"], moving) if "Label" in name else batch["data"][:, :1]
    torch.testing.assert_close(x, joint_min_max(torch.cat((fixed, moving), 1)))
    assert x.amin() == 0 and x.amax() == 1
    torch.testing.assert_close(rigid_transform.matrix(target) @ base, torch.eye(4).expand(4, 4, 4), atol=1e-4, rtol=0)
    largest = 8 if "Stage2" in name else 20
    assert sre(base, batch["points"], batch["exists"]).max() <= largest + 0.01


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_network_has_no_error(make, name):
    trainer = make(name)
    batch = batch_for(trainer)
    batch["perturbation"] = random_perturbations(batch["points"], batch["exists"], trainer.sre_range)
    target = trainer.input_and_target(batch, batch["perturbation"])[1]
    before = sre(rigid_transform.matrix(batch["perturbation"]), batch["points"], batch["exists"]).mean().item()
    trainer.network = lambda x: target
    result = trainer.validation_step(batch)
    assert result["loss"] == 0 and result["sre"] < 1e-4 and result["score"] > 0.999
    trainer.network = lambda x: 0 * target
    assert trainer.validation_step(batch)["sre"] == pytest.approx(before, rel=1e-5)


def test_the_learning_rate_falls_three_times_to_three_tenths(make):
    trainer = make("nnUNetTrainerAttentionReg")
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (300, 66)
    rates = {}
    for epoch in (0, 119, 120, 169, 170, 249, 250, 299):
        trainer.lr_scheduler.step(epoch)
        rates[epoch] = trainer.optimizer.param_groups[0]["lr"]
    assert rates == pytest.approx(
        {epoch: 1e-3 * 0.3**drops for epoch, drops in zip(rates, (0, 0, 1, 1, 2, 2, 3, 3))}, rel=1e-9
    )


@pytest.mark.parametrize("name", NAMES)
def test_autocast_to_bfloat16_is_finite(make, name, monkeypatch):
    trainer = make(name)
    trainer.network.train()
    monkeypatch.setattr(trainer, "mixed_precision", lambda: torch.autocast("cpu", torch.bfloat16))
    batch = batch_for(trainer)
    assert np.isfinite([trainer.train_step(batch)["loss"] for _ in range(3)]).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in trainer.network.parameters())


def test_gradients_that_a_grad_scaler_scales_are_the_same(make):
    plain, scaled = make("nnUNetTrainerFeatureReg"), make("nnUNetTrainerFeatureReg")
    scaled.network.load_state_dict(plain.network.state_dict())
    scaled.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for trainer in (plain, scaled):
        torch.manual_seed(1)
        trainer.network.train()
        trainer.train_step(batch_for(trainer))
    for ours, theirs in zip(plain.network.parameters(), scaled.network.parameters()):
        torch.testing.assert_close(ours, theirs)


def test_weights_are_what_tells_the_trainers_apart(make):
    parameters = {name: sum(p.numel() for p in make(name).network.parameters()) for name in NAMES}
    block = 2 * 2192
    assert parameters["nnUNetTrainerAttentionReg"] - parameters["nnUNetTrainerFeatureReg"] == block
    assert len(set(parameters.values())) == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_parameters_and_the_cost_of_the_network_that_runs(make, name, make_dataset_json, tmp_path):
    trainer = make(name, grid=(32, 96, 96), initialize=False)
    write_json(trainer.plans_manager.plans, tmp_path / "plans.json")
    write_json(make_dataset_json(), tmp_path / "dataset.json")
    parameters, flops = network_cost(tmp_path, name, "3d_fullres")
    assert parameters == (1_244_393 if "Feature" in name else 1_248_777)
    small = make(name)
    write_json(small.plans_manager.plans, tmp_path / "plans.json")
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        small.network.eval()(torch.zeros(1, 2, *GRID))
    assert network_cost(tmp_path, name, "3d_fullres")[1] == counter.get_total_flops() < flops


def test_another_number_of_channels_is_refused(make):
    with pytest.raises(XModalError, match="reads two channels, the fixed image and then the moving one, .* has 3"):
        make("nnUNetTrainerAttentionReg", channels=3)


def test_plans_of_segmentation_are_refused(make_trainer, make_plans):
    with pytest.raises(XModalError, match="fixed grid, which the plans nnUNetPlans do not have: .*RegistrationPlanner"):
        make_trainer("nnUNetTrainerFeatureReg", make_plans(dimensions=3))


def test_nan_in_a_batch_names_the_case(make):
    trainer = make("nnUNetTrainerAttentionReg")
    batch = batch_for(trainer)
    batch["data"][1, 0, 3, 3, 3] = float("nan")
    with pytest.raises(XModalError, match="the preprocessed case case_1 holds NaN or infinite voxels"):
        trainer.train_step(batch)


def test_a_loss_that_turns_nan_stops_the_training(make):
    trainer = make("nnUNetTrainerAttentionReg")
    trainer.network.train()
    with torch.no_grad():
        trainer.network.regressor[-1].bias.fill_(float("nan"))
    with pytest.raises(XModalError, match=r"the loss \(loss\) turned NaN or infinite in epoch 0: go on from"):
        trainer.train_step(batch_for(trainer))


@pytest.mark.parametrize("name", NAMES)
def test_nnunets_prediction_says_which_command_to_use(make, name):
    trainer = make(name)
    assert trainer.predictor_class is RegistrationPredictor
    build = (trainer.plans_manager, trainer.configuration_manager, 2, 2, False)
    with pytest.raises(XModalError, match=f"{name} predict transforms, .* use nnUNetXModal_predict"):
        trainer.build_network_architecture(*build)
    with building("predictor"):
        trainer.build_network_architecture(*build).load_state_dict(trainer.network.state_dict())


def test_deep_supervision_cannot_be_switched(make):
    trainer = make("nnUNetTrainerAttentionReg")
    trainer.set_deep_supervision_enabled(True)
    assert trainer.network.eval()(torch.zeros(1, 2, *GRID)).shape == (1, 6)
