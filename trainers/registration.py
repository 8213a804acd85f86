"""Attention-Reg and Feature-Reg (Song et al., Cross-modal Attention for MRI and Ultrasound Volume …, 2021, Table 1)."""

from nnunet_xmodal.networks.blocks.cross_modal_attention import CrossModalAttention
from nnunet_xmodal.trainers.base.registration import RegistrationTrainer


class nnUNetTrainerAttentionReg(RegistrationTrainer):
    """Attention-Reg (img): a cross-modal attention block per image."""

    attention = CrossModalAttention


class nnUNetTrainerAttentionRegLabel(nnUNetTrainerAttentionReg):
    """Attention-Reg (label): the organ's label in the place of the fixed image."""

    fixed_is_label = True


class nnUNetTrainerFeatureReg(RegistrationTrainer):
    """Feature-Reg, the ablation: features are concatenated as they are."""


class nnUNetTrainerAttentionRegStage2(nnUNetTrainerAttentionReg):
    """The second stage, for what the first one leaves: trained from starts of 8 mm at most."""

    sre_range = (0.0, 8.0)
    exact_starts = (8.0,)
