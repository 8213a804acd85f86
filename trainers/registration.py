"""Attention-Reg and Feature-Reg (Song et al., Cross-modal Attention for MRI and Ultrasound Volume …, 2021, Table 1)."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.networks.blocks.cross_modal_attention import CrossModalAttention
from nnunet_xmodal.networks.correspondence_reg import CorrespondenceReg
from nnunet_xmodal.networks.dv_net import DVNet
from nnunet_xmodal.networks.ms_reg import MSReg
from nnunet_xmodal.tasks.registration.turning_point import parameters_about
from nnunet_xmodal.trainers.base.registration import RegistrationTrainer
from nnunet_xmodal.trainers.base.schedule import milestones


class nnUNetTrainerAttentionReg(RegistrationTrainer):
    """Attention-Reg (img): a cross-modal attention block per image."""

    attention = CrossModalAttention


class nnUNetTrainerAttentionRegLabel(nnUNetTrainerAttentionReg):
    """Attention-Reg (label): the organ's label in the place of the fixed image."""

    fixed_is_label = True


class nnUNetTrainerAttentionRegPaper(nnUNetTrainerAttentionReg):
    """Attention-Reg as published: the mean squared error of six numbers that turn about the volume's corner (Sec. 2.3).

    Adam 1e-3 that falls to 0.3 of itself three times. Starts turn about the corner, too, in training and validation,
    which is another task and an easier one than that of the other trainers: see `tasks.registration.turning_point`.

    Attributes:
        milestones, factor: shares of the training at which the learning rate is multiplied by the factor.
    """

    turns_about_corner = True
    initial_lr = 1e-3
    milestones = (120 / 300, 170 / 300, 250 / 300)
    factor = 0.3

    def _build_loss(self) -> nn.Module:
        return nn.MSELoss()

    def rate(self) -> Callable[[float], float]:
        """Return the learning rate of an epoch."""
        return milestones(self.initial_lr, self.num_epochs, self.milestones, self.factor)

    def loss_of(self, output: torch.Tensor, base: torch.Tensor, batch: dict) -> torch.Tensor:
        """Return the mean squared difference to the six numbers that undo base, mm and degrees as they are."""
        return self.loss(output, parameters_about(rigid_transform.inverse(base), self.turning_point(batch)))


class nnUNetTrainerFeatureReg(RegistrationTrainer):
    """Feature-Reg, the ablation: features are concatenated as they are."""


class nnUNetTrainerCorrespondenceReg(RegistrationTrainer):
    """Not of the paper: soft matches between descriptors of both images, and the rigid transform that fits them."""

    @classmethod
    def network_on_grid(cls, grid: Sequence[int]) -> nn.Module:
        """Build the network of correspondences."""
        return CorrespondenceReg(grid)


class nnUNetTrainerCorrespondenceRegStage2(nnUNetTrainerCorrespondenceReg):
    """The second stage of correspondences, for what the first one leaves: starts of 8 mm at most."""

    sre_range = (0.0, 8.0)
    exact_starts = (8.0,)


class nnUNetTrainerAttentionRegStage2(nnUNetTrainerAttentionReg):
    """The second stage, for what the first one leaves: trained from starts of 8 mm at most."""

    sre_range = (0.0, 8.0)
    exact_starts = (8.0,)


class nnUNetTrainerDVNet(RegistrationTrainer):
    """DVNet (Sun et al., 2018), as Song et al. compare with it: a 2D network of the volumes' slices."""

    one_input = True

    @classmethod
    def network_on_grid(cls, grid: Sequence[int]) -> nn.Module:
        """Build the 2D network."""
        return DVNet(grid)


class nnUNetTrainerMSReg(RegistrationTrainer):
    """MSReg (Guo et al., 2020): a ResNeXt of both volumes."""

    one_input = True

    @classmethod
    def network_on_grid(cls, grid: Sequence[int]) -> nn.Module:
        """Build the ResNeXt."""
        return MSReg(grid)
