"""The paper's MS training: its schedule, its augmentation, and which weights it keeps."""

from pathlib import Path

import pytest
import torch
from batchgeneratorsv2.transforms.intensity.brightness import BrightnessAdditiveTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

from nnunet_xmodal import trainers
from nnunet_xmodal.trainers.base.schedule import EpochSchedule, milestones
from nnunet_xmodal.trainers.folded_attention_paper import BEST_LOSS


@pytest.fixture
def trainer(make_trainer, make_plans):
    return make_trainer("nnUNetTrainerFAPaper", make_plans())


def test_settings_of_the_paper(trainer):
    assert (trainer.num_epochs, trainer.batch_size) == (120, 4)
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    assert trainer.optimizer.param_groups[0]["lr"] == 1e-3
    assert not trainer.enable_deep_supervision


@pytest.mark.parametrize(
    "epoch, rate", [(0, 1e-3), (59, 1e-3), (60, 1e-4), (83, 1e-4), (84, 1e-5), (107, 1e-5), (108, 1e-6), (119, 1e-6)]
)
def test_the_rate_follows_from_the_epoch_alone(epoch, rate):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], 1e-3)
    scheduler = EpochSchedule(optimizer, milestones(1e-3, 120, (0.5, 0.7, 0.9)))
    scheduler.step(epoch)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    assert scheduler.get_last_lr() == [pytest.approx(rate)]


def test_elastic_deformation_and_intensity_shift_are_all_augmentation():
    transforms = trainers.nnUNetTrainerFAPaper.get_training_transforms(
        (16, 16), (0.0, 0.0), None, None, False, use_mask_for_norm=[False, False]
    ).transforms
    (spatial,) = [transform for transform in transforms if isinstance(transform, SpatialTransform)]
    assert (spatial.p_elastic_deform, spatial.p_rotation, spatial.p_scaling) == (0.5, 0, 0)
    names = {type(transform).__name__ for transform in transforms}
    assert BrightnessAdditiveTransform.__name__ in names and not {"RandomTransform", "MirrorTransform"} & names


@pytest.mark.parametrize("dummy_2d", [True, False])
def test_a_channel_is_shifted_as_a_whole(dummy_2d):
    """The paper's own patch, 32×160×128, is so anisotropic that nnU-Net augments its slices as channels."""
    patch = (8, 32, 32)
    transforms = trainers.nnUNetTrainerFAPaper.get_training_transforms(
        patch, (0.0, 0.0), None, None, dummy_2d, use_mask_for_norm=[False, False]
    )
    shifted = transforms(image=torch.zeros(2, *patch), segmentation=torch.zeros(1, *patch, dtype=torch.int16))["image"]
    inner = shifted[:, 2:-2, 8:-8, 8:-8]
    assert all(float(channel.max() - channel.min()) < 1e-5 for channel in inner)
    assert float(abs(inner).min()) > 0 and float(inner[0, 0, 0, 0]) != float(inner[1, 0, 0, 0])


def test_without_checkpoints_an_earlier_trainings_weights_stay_where_they_are(trainer, monkeypatch):
    monkeypatch.setattr(trainers.nnUNetTrainerFAPaper.__mro__[1], "on_train_end", lambda self: None, raising=False)
    Path(trainer.output_folder).mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(str(Path(trainer.output_folder) / BEST_LOSS))
    with torch.no_grad():
        next(trainer.network.parameters()).add_(1)
    before = next(trainer.network.parameters()).clone()
    trainer.disable_checkpointing = True
    trainer.on_train_end()
    assert torch.equal(next(trainer.network.parameters()), before)


def test_missed_foreground_costs_more_than_missed_background(trainer):
    target = torch.zeros(1, 1, 4, 4)
    target[..., :2] = 1
    logits = torch.zeros(1, 3, 4, 4)
    ce = trainer.loss.ce

    def loss_if_wrong(where) -> float:
        right = torch.nn.functional.one_hot(target[:, 0].long(), 3).movedim(-1, 1) * 4.0
        right[..., where] = logits[..., where]
        return ce(right, target[:, 0]).item()

    assert loss_if_wrong(slice(0, 2)) > 2 * loss_if_wrong(slice(2, 4))


@pytest.mark.slow
def test_the_weights_of_the_least_validation_loss_are_the_final_ones(trainer):
    trainer.num_epochs = 3
    bias = trainer.plain_network.decoder.seg_layers[-1].bias
    for epoch, loss in enumerate((0.5, 0.1, 0.3)):
        trainer.current_epoch = epoch
        for key in ("train_losses", "mean_fg_dice", "ema_fg_dice", "epoch_start_timestamps", "lrs"):
            trainer.logger.log(key, 0.1, epoch)
        trainer.logger.log("val_losses", loss, epoch)
        trainer.logger.log("dice_per_class_or_region", [0.1, 0.1], epoch)
        with torch.no_grad():
            bias.fill_(epoch)
        Path(trainer.output_folder).mkdir(parents=True, exist_ok=True)
        trainer.on_epoch_end()
    assert (Path(trainer.output_folder) / BEST_LOSS).is_file()
    trainer.dataloader_train = trainer.dataloader_val = None
    trainer.on_train_end()
    final = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)["network_weights"]
    finest = max(key for key in final if key.startswith("decoder.seg_layers.") and key.endswith("bias"))
    assert (final[finest] == 1).all()
