"""Susceptibility from the field alone, patch by patch: QSMnet's way, and the paper's (Zhang et al., 2021, Table 2)."""

from nnunet_xmodal.trainers.susceptibility import (
    nnUNetTrainerQSM,
    nnUNetTrainerQSMDualAttention,
    nnUNetTrainerQSMFA,
    nnUNetTrainerQSMRSA,
    nnUNetTrainerQSMSA,
)


class nnUNetTrainerQSMDirect(nnUNetTrainerQSM):
    """The backbone on the field alone, neither reversed nor scaled.

    Models that `nnUNetTrainerQSM` trained when it was this one predict under that name as they were trained.
    """

    field_inputs = None
    reversals = False
    strengths = None
    square_weight = 0.0


class nnUNetTrainerQSMFADirect(nnUNetTrainerQSMDirect, nnUNetTrainerQSMFA):
    """Folded attention at the bottom, on the field alone."""


class nnUNetTrainerQSMSADirect(nnUNetTrainerQSMDirect, nnUNetTrainerQSMSA):
    """Self-attention at the bottom, on the field alone."""


class nnUNetTrainerQSMDualAttentionDirect(nnUNetTrainerQSMDirect, nnUNetTrainerQSMDualAttention):
    """Dual attention at the bottom, on the field alone."""


class nnUNetTrainerQSMRSADirect(nnUNetTrainerQSMDirect, nnUNetTrainerQSMRSA):
    """Recurrent slice-wise attention at the bottom, on the field alone."""
