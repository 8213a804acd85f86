"""Folded attention as its paper trained it for MS lesions (Zhang et al., 2021, "Implementation Details")."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from batchgeneratorsv2.transforms.intensity.brightness import BrightnessAdditiveTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from nnunet_xmodal.files.trusted_checkpoints import read_checkpoint
from nnunet_xmodal.trainers.attention import nnUNetTrainerFALiteral
from nnunet_xmodal.trainers.base.augmentation import CHANGE_INTENSITIES, AugmentationSettings, without
from nnunet_xmodal.trainers.base.paper_settings import PaperSettings
from nnunet_xmodal.trainers.base.schedule import EpochSchedule, milestones

BEST_LOSS = "checkpoint_best_loss.pth"

_NOT_IN_THE_PAPER = (*CHANGE_INTENSITIES, MirrorTransform)
_WHERE_PATCHES_LIE = (SpatialTransform, Convert2DTo3DTransform)


class nnUNetTrainerFAPaper(PaperSettings, nnUNetTrainerFALiteral):
    """Adam 1e-3 with milestones, weighted cross-entropy + soft Dice, 120 epochs of batches of four, elastic
    deformation and intensity shift; the weights with the least validation loss are the final ones.

    The paper prints no class weights and no ranges of the augmentation: those below are ours, and so are nnU-Net's 250
    iterations an epoch. Patches and layers are those of the plans; the paper crops 128×160×32.

    Attributes:
        foreground_weight: of cross-entropy, with 1 for the background.
        shift: standard deviation of the intensity shift, in standard deviations of the z-scored image.
        elastic_scale, elastic_magnitude: of the deformation, as shares of the patch, see SpatialTransform.
    """

    deep_supervision = False
    num_epochs = 120
    paper_batch_size = 4
    initial_lr = 1e-3
    milestones = (0.5, 0.7, 0.9)
    foreground_weight = 3.0
    shift = 0.1
    elastic_scale = (0.1, 0.3)
    elastic_magnitude = (0.0, 0.1)

    def _build_loss(self) -> nn.Module:
        if not self.enable_deep_supervision:
            return self._loss_of_an_output()
        loss = super()._build_loss()
        loss.loss = self._loss_of_an_output()  # keeps nnU-Net's weights of the levels
        return loss

    def _loss_of_an_output(self) -> nn.Module:
        """Weighted cross-entropy + soft Dice; binary cross-entropy per region where regions are trained."""
        dice = {"batch_dice": self.configuration_manager.batch_dice, "smooth": 1e-5, "ddp": self.is_ddp}
        heads, ignore = self.label_manager.num_segmentation_heads, self.label_manager.ignore_label
        weight = torch.full((heads,), self.foreground_weight, device=self.device)
        if self.label_manager.has_regions:
            weight = weight.view(-1, *[1] * len(self.configuration_manager.patch_size))  # heads 1 1 1
            return DC_and_BCE_loss(
                {"pos_weight": weight},
                {**dice, "do_bg": True},
                use_ignore_label=ignore is not None,
                dice_class=MemoryEfficientSoftDiceLoss,
            )
        weight[0] = 1
        return DC_and_CE_loss(
            {**dice, "do_bg": False}, {"weight": weight}, ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss
        )

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, EpochSchedule]:
        """Return the optimiser and the schedule of its learning rate."""
        optimizer = torch.optim.Adam(self.network.parameters(), self.initial_lr)
        return optimizer, EpochSchedule(optimizer, milestones(self.initial_lr, self.num_epochs, self.milestones))

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> AugmentationSettings:
        """Return no rotation and no mirrors, and the patch size of nnU-Net."""
        _, dummy_2d, initial_patch_size, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        return (0.0, 0.0), dummy_2d, initial_patch_size, None

    @classmethod
    def get_training_transforms(cls, *args: Any, **kwargs: Any) -> ComposeTransforms:
        """Return the paper's transforms of training patches."""
        kept = without(super().get_training_transforms(*args, **kwargs), _NOT_IN_THE_PAPER)
        # slices of anisotropic patches are channels from the first to the last of these
        last = max(index for index, each in enumerate(kept) if isinstance(each, _WHERE_PATCHES_LIE))
        kept.insert(last + 1, BrightnessAdditiveTransform(0, cls.shift, synchronize_channels=False))
        for transform in kept:
            if isinstance(transform, SpatialTransform):
                transform.p_rotation = transform.p_scaling = 0
                transform.p_elastic_deform = 0.5
                transform.elastic_deform_scale = cls.elastic_scale
                transform.elastic_deform_magnitude = cls.elastic_magnitude
        return ComposeTransforms(kept)

    def on_epoch_end(self) -> None:
        """End the epoch, and keep the weights with the lowest validation loss."""
        losses = self.logger.get_value("val_losses", step=None)
        if losses[-1] <= min(losses):
            self.save_checkpoint(str(Path(self.output_folder) / BEST_LOSS))
        super().on_epoch_end()

    def on_train_end(self) -> None:
        """End the training with the weights of the lowest validation loss; without checkpoints with the last ones."""
        best = Path(self.output_folder) / BEST_LOSS
        if self.is_ddp:
            dist.barrier()  # the first rank may still be writing it
        if best.is_file() and not self.disable_checkpointing:
            weights = read_checkpoint(best, self.device)["network_weights"]
            self.plain_network.load_state_dict(weights)
        super().on_train_end()
