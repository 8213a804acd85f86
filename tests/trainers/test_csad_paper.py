"""The settings of the paper's training (Zhang et al., Cross-Modal Self-Attention Distillation, 2020, Sec. IV-A)."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal import trainers
from nnunet_xmodal.losses.dice_wbce import DiceAndWeightedBCE
from nnunet_xmodal.trainers.base.augmentation import CHANGE_INTENSITIES


@pytest.fixture
def make(make_trainer, make_plans):
    return lambda dimensions=2, **options: make_trainer("nnUNetTrainerCSADPaper", make_plans(dimensions), **options)


def test_the_loss_optimiser_and_lengths_are_the_papers(make):
    trainer = make()
    loss = trainer.loss
    assert isinstance(loss.segmentation_loss, DiceAndWeightedBCE)
    assert (loss.alpha, trainer.beta, trainer.sigma, trainer.lam) == (1.0, 0.1, 1.0, 0.95)
    assert loss.distillation_loss.scale == "positions" and trainer.network.distillation.amgb.normalisation == "sum"
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert (trainer.num_epochs, trainer.batch_size, trainer.enable_deep_supervision) == (100, 2, False)


def test_sgd_has_momentum_and_a_rate_that_decays_to_nothing(make):
    trainer = make()
    (group,) = trainer.optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.01, 0.9, 0, False)
    rates = []
    for epoch in (0, 50, 99):
        trainer.lr_scheduler.step(epoch)
        rates.append(group["lr"])
    assert rates == pytest.approx([0.01, 0.01 * 0.5**0.9, 0.01 * 0.01**0.9])


def test_augmentation_is_rotation_zoom_shift_and_blur(make):
    trainer = make()
    rotation, dummy_2d, loaded, mirrored = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert rotation == pytest.approx((-np.pi / 12, np.pi / 12))
    assert mirrored is None and trainer.inference_allowed_mirroring_axes is None
    patch = trainer.configuration_manager.patch_size
    transforms = trainer.get_training_transforms(
        patch, rotation, None, mirrored, dummy_2d, use_mask_for_norm=[False] * 2, foreground_labels=[1, 2]
    ).transforms
    (spatial,) = [transform for transform in transforms if isinstance(transform, SpatialTransform)]
    assert (spatial.p_rotation, spatial.p_scaling, spatial.scaling, spatial.p_elastic_deform) == (1, 1, (0.85, 1.15), 0)
    assert spatial.random_crop and spatial.patch_center_dist_from_border == [side // 2 for side in patch]
    inner = [getattr(transform, "transform", transform) for transform in transforms]
    changing = [transform for transform in inner if type(transform) in CHANGE_INTENSITIES]
    assert [type(transform) for transform in changing] == [GaussianBlurTransform]
    assert not any(isinstance(transform, MirrorTransform) for transform in inner)


def test_patches_lie_at_random_places(make):
    assert make().oversample_foreground_percent == 0


def batch_of(scale=1.0):
    return {
        "data": scale * torch.randn(2, 2, 16, 16),
        "target": torch.randint(0, 3, (2, 1, 16, 16), dtype=torch.int16),
        "keys": ["a", "b"],
    }


def test_gradients_are_not_clipped(make, monkeypatch):
    monkeypatch.setattr(trainers.nnUNetTrainerCSADPaper, "slice_size", (24, 24))
    trainer = make()
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *_: pytest.fail("clipped"))
    batch, learning_rate = batch_of(), trainer.optimizer.param_groups[0]["lr"]
    before = [p.detach().clone() for p in trainer.network.parameters()]
    trainer.train_step(batch)
    for old, parameter in zip(before, trainer.network.parameters()):
        if parameter.grad is not None:  # the first step of momentum is the gradient
            torch.testing.assert_close(parameter.detach(), old - learning_rate * parameter.grad)


def test_a_2d_network_works_on_256_by_256_and_answers_on_the_grid_of_its_input(make):
    network = make().network.eval()
    x = torch.randn(1, 2, 16, 24)
    seen = [tuple(level.shape[2:]) for level in network.encoder.stream_features(x)[0]]
    assert seen == [(256, 256), (128, 128), (64, 64)]
    with torch.no_grad():
        logits = network(x)
        assert logits.shape == (1, 3, 16, 24)
        large = network(F.interpolate(x, (256, 256), mode="bilinear"))
        torch.testing.assert_close(logits, F.interpolate(large, (16, 24), mode="bilinear"))


def test_with_deep_supervision_coarser_logits_are_on_coarser_grids(make_trainer, make_plans):
    supervised = type("nnUNetTrainerOther", (trainers.nnUNetTrainerCSADPaper,), {"deep_supervision": True})
    network = make_trainer(supervised, make_plans()).network.eval()
    assert [tuple(level.shape[2:]) for level in network(torch.randn(1, 2, 16, 16))] == [(16, 16), (8, 8)]


def test_the_plans_say_so_and_models_from_before_keep_their_size(make):
    trainer = make()
    plans = trainer.plans_manager.plans
    assert plans["xmodal"]["slice_size"] == [256, 256]
    del plans["xmodal"]["slice_size"]
    arguments = trainer.plans_manager, trainer.configuration_manager, 2, 3, False
    old = trainer.build_network_architecture(*arguments)
    old.load_state_dict(trainer.network.state_dict())
    assert old.encoder.stream_features(torch.randn(1, 2, 16, 16))[0][0].shape[2:] == (16, 16)


def test_a_checkpoint_is_read_as_it_was_trained(make, tmp_path):
    """Also where it is validated by itself or goes on; one of before knows of no size."""
    file = str(tmp_path / "checkpoint_final.pth")
    trainer = make()
    trainer.save_checkpoint(file)
    again = make()
    again.load_checkpoint(file)
    assert again.network.encoder.slice_size == (256, 256)
    del trainer.plans_manager.plans["xmodal"]["slice_size"]
    trainer.save_checkpoint(file)
    again.load_checkpoint(file)
    assert again.network.encoder.slice_size is None
    assert "slice_size" not in again.plans_manager.plans["xmodal"]


def test_3d_patches_stay_as_they_are(make):
    trainer = make(3)
    assert "slice_size" not in trainer.plans_manager.plans["xmodal"]
    assert trainer.network.encoder.slice_size is None
