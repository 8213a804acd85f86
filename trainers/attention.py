"""nnU-Net's own network with one block of attention: folded attention and its rivals (Zhang et al., 2021, Table 1)."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from nnunet_xmodal.networks.blocks.at_bottleneck import AtBottleneck
from nnunet_xmodal.networks.blocks.attention_gates import AttentionGates
from nnunet_xmodal.networks.blocks.dual_attention import DualAttention
from nnunet_xmodal.networks.blocks.folded_attention import FoldedAttention
from nnunet_xmodal.networks.blocks.recurrent_slice_attention import RecurrentSliceAttention
from nnunet_xmodal.networks.blocks.self_attention import SelfAttention
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet, SkipAttention
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.trainer import XModalTrainer
from nnunet_xmodal.trainers.csad import nnUNetTrainerCSAD


class nnUNetTrainerFA(XModalTrainer):
    """Folded attention at the bottleneck of one encoder for all channels, trained as nnU-Net trains.

    Residual, with inverted channel affinity, as the co-author's module, and with scaled logits. Models that were
    trained by Eq. 7's letter, when that had this name, predict as they were trained.

    Attributes:
        residual_beta, invert_channel, scale_logits: see FoldedAttention.
    """

    residual_beta = True
    invert_channel = True
    scale_logits = True

    @classmethod
    def attention(cls) -> SkipAttention:
        """Return what makes what the skips pass on their way to the decoder."""
        block = partial(
            FoldedAttention,
            residual_beta=cls.residual_beta,
            invert_channel=cls.invert_channel,
            scale_logits=cls.scale_logits,
        )
        return partial(_at_bottleneck, block)

    one_input = True

    @classmethod
    def build_network(cls, plan: UNetPlan) -> MultiStreamUNet:
        """Build the untrained network of the plan."""
        streams = cls.streams_read(plan.streams)
        return MultiStreamUNet(**{**plan.arguments, "streams": streams}, attention=cls.attention())


class nnUNetTrainerFALiteral(nnUNetTrainerFA):
    """Folded attention by the letter of Eq. 7: no identity, plain channel affinity, unscaled logits."""

    residual_beta = False
    invert_channel = False
    scale_logits = False


class nnUNetTrainerSA(nnUNetTrainerFA):
    """Self-attention between all positions of the bottleneck."""

    @classmethod
    def attention(cls) -> SkipAttention:
        """Return what makes self-attention at the bottleneck."""
        return partial(_at_bottleneck, SelfAttention)


class nnUNetTrainerRSA(nnUNetTrainerFA):
    """Recurrent slice-wise attention at the bottleneck."""

    @classmethod
    def attention(cls) -> SkipAttention:
        """Return what makes recurrent slice-wise attention at the bottleneck."""
        return partial(_at_bottleneck, RecurrentSliceAttention)


class nnUNetTrainerDualAttention(nnUNetTrainerFA):
    """Dual attention at the bottleneck, with the plan's normalisation; "DA" means data augmentation in nnU-Net."""

    @classmethod
    def attention(cls) -> SkipAttention:
        """Return what makes dual attention at the bottleneck."""
        return _dual_attention


class nnUNetTrainerAG(nnUNetTrainerFA):
    """Attention gates on the skips, with the plan's normalisation."""

    @classmethod
    def attention(cls) -> SkipAttention:
        """Return what makes attention gates on the skips."""
        return AttentionGates


class nnUNetTrainerCSADFA(nnUNetTrainerCSAD):
    """CSAD with folded attention behind SCFF's fusion."""

    @classmethod
    def blocks(cls, plan: UNetPlan) -> dict:
        """Return what the network takes besides the plan."""
        return {**super().blocks(plan), "attention": nnUNetTrainerFA.attention()}


def _at_bottleneck(
    block: Callable[[type[nn.Module], int], nn.Module],
    conv_op: type[nn.Module],
    widths: Sequence[int],
    norm_op: type[nn.Module] | None,
) -> AtBottleneck:
    """For blocks without normalisation."""
    return AtBottleneck(block, conv_op, widths)


def _dual_attention(conv_op: type[nn.Module], widths: Sequence[int], norm_op: type[nn.Module] | None) -> AtBottleneck:
    return AtBottleneck(partial(DualAttention, norm_op=norm_op), conv_op, widths)
