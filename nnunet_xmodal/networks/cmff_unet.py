"""Cross-modality feature fusion (Zhang et al., Cross-Modality Deep Feature Learning, 2021, Sec. 3.2, Fig. 3 and 4).

Names of parameters, by which weights travel between trainers: those of BranchesUNet, and `fusion.` for what comes
after. Last layers, and they alone, have names with `.seg_layers.`; the networks without a fusion branch hold a part of
the names of the one with it.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn

from nnunet_xmodal.networks.blocks.mask_guided_attention import MaskGuidedAttention
from nnunet_xmodal.networks.blocks.present_streams import (
    other_where_absent,
    without_absent_channels,
    zero_where_absent,
)
from nnunet_xmodal.networks.blocks.stream_dropout import StreamDropout
from nnunet_xmodal.networks.branches_unet import BranchesUNet, Taps
from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.unet_plan import sizes_of_levels


class FusionBranch(nn.Module):
    """S_F: both branches' last layers but one are convolved together, then with the result their last ones (Fig. 4).

    Convolutions have the plan's kernel on the full resolution (3³, flatter in anisotropic plans), norm and
    nonlinearity, and the width C of the layers that they read. What follows them is either of:

    Args:
        encoder: of a branch, for all of these.
        num_classes: K.
        guidance: the mask-guided attention block.
        attention: `(conv_op, channels)` → module that keeps the shape of its features.

    Shape: per branch two `(B, C, *spatial)` and the logits `(B, K, *spatial)` → `(B, K, *spatial)`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_classes: int,
        guidance: MaskGuidedAttention | None,
        attention: Callable[..., nn.Module] | None,
    ) -> None:
        super().__init__()
        width = encoder.output_channels[0]
        self.earlier = self._convolution(encoder, 2 * width, width)
        self.last = self._convolution(encoder, 3 * width, width)
        self.attention = attention and attention(encoder.conv_op, width)
        self.guidance = guidance
        channels = width if guidance is None else guidance.out_channels(width, num_classes)
        self.seg_layers = nn.ModuleList([encoder.conv_op(channels, num_classes, kernel_size=1)])

    @staticmethod
    def _convolution(encoder: nn.Module, input_channels: int, output_channels: int) -> ConvDropoutNormReLU:
        return ConvDropoutNormReLU(
            encoder.conv_op,
            input_channels,
            output_channels,
            encoder.kernel_sizes[0],
            1,
            encoder.conv_bias,
            encoder.norm_op,
            encoder.norm_op_kwargs,
            encoder.dropout_op,
            encoder.dropout_op_kwargs,
            encoder.nonlin,
            encoder.nonlin_kwargs,
        )

    def forward(
        self,
        taps: Sequence[Taps],
        branch_logits: Sequence[torch.Tensor],
        regions: bool,
        present: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the logits of S_F; see the class."""
        earlier, last = zip(*taps)
        features = self.earlier(torch.cat(earlier, 1))  # B C *spatial
        features = self.last(torch.cat((features, *last), 1))  # B C *spatial
        if self.attention is not None:
            features = self.attention(features)
        if self.guidance is not None:
            features = self.guidance(features, branch_logits, regions, present)
        return self.seg_layers[0](features)

    def compute_conv_feature_map_size(self, size: Sequence[int]) -> int:
        """Count the numbers in the outputs of its convolutions for features of this size."""
        own = (2 * self.last.output_channels + self.seg_layers[0].out_channels) * prod(size)
        return own if self.attention is None else own + self.attention.compute_conv_feature_map_size(size)


class CMFFUNet(BranchesUNet):
    """S_A and S_B, and the fusion branch S_F behind them.

    S_F exists on the full resolution only: with deep supervision its list has one entry, the branches' have one per
    level.

    Args:
        guidance: the mask-guided attention block, None for "Ours w/o MG" of Table 2.
        attention: `(conv_op, channels)` → block of S_F's features, e.g. CBAM for "Ours w CA".
        stream_dropout: draws in training mode, of the streams that a sample has, which are present.
        The others are those of BranchesUNet.

    Shape: `(B, input_channels, *spatial)` → in eval mode logits of S_F, `(B, num_classes, *spatial)` or a list of
    them; in training mode `(logits of S_F, (logits of S_A, logits of S_B))`.

    `present`, bool `(B, 2)` with at least one True in each row, says which streams there are, of which `stream_dropout`
    drops some in training; None means both. What an absent stream's channels hold, NaN included, changes neither output
    nor gradient: S_F reads 0 in the place of its branch and is guided by the other's mask, and its branch's logits are
    the other's, as constants, so that a loss of them teaches it nothing.

    Raises:
        XModalError: for another number of streams than two.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        guidance: MaskGuidedAttention | None = None,
        attention: Callable[..., nn.Module] | None = None,
        stream_dropout: StreamDropout | None = None,
        **branches: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, **branches)
        self.fusion = FusionBranch(self._first_encoder, num_classes, guidance, attention)
        self.stream_dropout = stream_dropout

    def forward(
        self, x: torch.Tensor, present: torch.Tensor | None = None
    ) -> torch.Tensor | list[torch.Tensor] | tuple:
        """Return the logits; see the class."""
        if self.stream_dropout is not None:
            present = self.stream_dropout(x, len(self.stream_channels), present)
        if present is not None:
            x = without_absent_channels(x, present, self.stream_channels)
        check_input(x, self.input_channels, self.total_stride, self.training)
        branch_logits: Sequence
        taps: Sequence[Taps]
        branch_logits, taps = zip(
            *(branch.with_taps(stream) for branch, stream in zip(self.branches.values(), self._streams(x)))
        )
        if present is not None:
            taps = _zeros_for_absent(taps, present)
            branch_logits = _others_for_absent(branch_logits, present)
        fused = self.fusion(taps, [logits[0] for logits in branch_logits], self.regions, present)
        if self.deep_supervision:
            fused = [fused]
        else:
            branch_logits = tuple(finest for (finest,) in branch_logits)
        return (fused, branch_logits) if self.training else fused

    @property
    def knows_absence(self) -> bool:
        """Tell whether it was made to be without a stream."""
        return self.stream_dropout is not None

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one sample."""
        finest = sizes_of_levels(input_size, self._first_encoder.strides)[0]
        return super().compute_conv_feature_map_size(input_size) + self.fusion.compute_conv_feature_map_size(finest)


def _zeros_for_absent(taps: Sequence[Taps], present: torch.Tensor) -> list[Taps]:
    """What both branches' layers put out, 0 in the samples whose stream is absent."""
    return [
        tuple(zero_where_absent(tap, present[:, branch]) for tap in of_branch) for branch, of_branch in enumerate(taps)
    ]


def _others_for_absent(
    branch_logits: Sequence[list[torch.Tensor]], present: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """`[branch][level]`, in samples whose stream is absent the other branch's, detached.

    Not left out of the output, because DistributedDataParallel waits for the gradient of every parameter.
    """
    a, b = branch_logits
    return (
        [other_where_absent(own, present[:, 0], other.detach()) for own, other in zip(a, b)],
        [other_where_absent(own, present[:, 1], other.detach()) for own, other in zip(b, a)],
    )
