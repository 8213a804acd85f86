"""CSAD as its paper trained it (Zhang et al., Cross-Modal Self-Attention Distillation, 2020, Sec. III-C and IV-A)."""

from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_xmodal.losses.dice_wbce import DiceAndWeightedBCE
from nnunet_xmodal.trainers.base.augmentation import CHANGE_INTENSITIES, AugmentationSettings, without
from nnunet_xmodal.trainers.base.paper_settings import PaperSettings
from nnunet_xmodal.trainers.base.unclipped_steps import UnclippedSteps
from nnunet_xmodal.trainers.csad import nnUNetTrainerCSADPrinted

_NOT_IN_THE_PAPER = ({*CHANGE_INTENSITIES} - {GaussianBlurTransform}) | {MirrorTransform}


class nnUNetTrainerCSADPaper(PaperSettings, UnclippedSteps, nnUNetTrainerCSADPrinted):
    """SGD, Dice + β·WBCE + α·L_CSAD, batches of two, 100 epochs, rotation, zoom, shift and blur, 256×256.

    The distillation is the printed reading. Patches at random places, gradients as they come: nnU-Net draws a third of
    the patches where there is a label and clips, of which the paper says nothing.

    The paper prints no learning rate, momentum or schedule: 0.01, 0.9 and nnU-Net's polynomial decay are ours, and so
    are the ranges of the augmentation. An epoch has nnU-Net's 250 iterations. The network of a 2d configuration resizes
    what it reads to 256×256, and its logits back, so that whole slices are the paper's where the plans' patch is one;
    3d patches stay as they are. The plans in the model folder say so, and models from before this rule predict as they
    were trained.

    Attributes:
        alpha, beta, sigma, lam: α, β, σ, λ of Eq. 8–11.
        rotation: largest angle in degrees, either way.
        zoom: range of the factor.
        slice_size: sides that 2d patches are resized to.
    """

    deep_supervision = False
    alpha, beta, sigma, lam = 1.0, 0.1, 1.0, 0.95
    num_epochs = 100
    paper_batch_size = 2
    initial_lr = 0.01
    oversample_foreground_percent = 0.0
    momentum = 0.9
    rotation = 15.0
    zoom = (0.85, 1.15)
    slice_size = (256, 256)

    def set_up(self, plans: dict, configuration: str, dataset_json: dict) -> None:
        """Add to the plans the size of the slices that 2d networks read."""
        super().set_up(plans, configuration, dataset_json)
        if len(PlansManager(plans).get_configuration(configuration).patch_size) == 2:
            plans["xmodal"]["slice_size"] = list(self.slice_size)

    @classmethod
    def network_from_plans(cls, plans: PlansManager, configuration: ConfigurationManager, *args: Any) -> nn.Module:
        """Build the network, which reads slices of the paper's size."""
        network = super().network_from_plans(plans, configuration, *args)
        size = plans.plans.get("xmodal", {}).get("slice_size")
        if size is not None and len(configuration.patch_size) == len(size):
            network.encoder.slice_size = tuple(size)
        return network

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Load a checkpoint, and read slices of the size that its model does."""
        super().load_checkpoint(filename_or_checkpoint)
        size = self.my_init_kwargs["plans"].get("xmodal", {}).get("slice_size")
        if size is None:
            self.plans_manager.plans["xmodal"].pop("slice_size", None)
        elif len(self.configuration_manager.patch_size) == len(size):
            self.plans_manager.plans["xmodal"]["slice_size"] = size
        self.plain_network.encoder.slice_size = None if size is None else tuple(size)

    def train_step(self, batch: dict) -> dict:
        """Train on one batch as nnU-Net does, without clipping."""
        self.loss.share = self.distillation_share()
        return super().train_step(batch)

    def _build_loss(self) -> nn.Module:
        segmentation_loss = DiceAndWeightedBCE(
            self.beta, self.sigma, self.lam, self.label_manager.has_regions, self.label_manager.ignore_label
        )
        loss = super()._build_loss()
        if self.enable_deep_supervision:
            loss.segmentation_loss.loss = segmentation_loss  # keeps nnU-Net's weights of the levels
        else:
            loss.segmentation_loss = segmentation_loss
        return loss

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """Return the optimiser and the schedule of its learning rate."""
        optimizer = torch.optim.SGD(self.network.parameters(), self.initial_lr, momentum=self.momentum)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> AugmentationSettings:
        """Return the paper's rotation, with mirrors and patch size as nnU-Net asks for them."""
        _, dummy_2d, initial_patch_size, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        rotation = np.deg2rad(self.rotation)
        return (-rotation, rotation), dummy_2d, initial_patch_size, None

    @classmethod
    def get_training_transforms(cls, *args: Any, **kwargs: Any) -> ComposeTransforms:
        """Return the paper's transforms of training patches."""
        kept = without(super().get_training_transforms(*args, **kwargs), _NOT_IN_THE_PAPER)
        for transform in kept:
            if isinstance(transform, SpatialTransform):
                transform.p_rotation = transform.p_scaling = 1
                transform.scaling = cls.zoom
                # nnU-Net loads more than a patch: where the patch is cut from it is the shift
                transform.random_crop = True
                transform.patch_center_dist_from_border = [side // 2 for side in transform.patch_size]
        return ComposeTransforms(kept)
