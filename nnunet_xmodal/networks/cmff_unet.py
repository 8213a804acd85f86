"""Cross-modality feature fusion (Zhang et al., Cross-Modality Deep Feature Learning, 2021, Sec. 3.2, Fig. 3 and 4).

Names of parameters, by which weights travel between trainers: `branches.A.` and `branches.B.` are followed by the
names of nnU-Net's own network, which are those of the generators as well; last layers, and they alone, have names with
`.seg_layers.`; the networks without a fusion branch hold a part of the names of the one with it.
"""

import json
from collections.abc import Callable, Sequence
from math import log, prod

import numpy as np
import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.mask_guided_attention import MaskGuidedAttention
from nnunet_xmodal.networks.blocks.present_streams import (
    other_where_absent,
    without_absent_channels,
    zero_where_absent,
)
from nnunet_xmodal.networks.blocks.stream_dropout import StreamDropout
from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.unet_plan import encoder_of, sizes_of_levels, unused_heads_without_gradient, with_unnamed

Taps = tuple[torch.Tensor, torch.Tensor]


def check_two_streams(streams: Sequence[Sequence[int]]) -> None:
    """
    Raises:
        XModalError: for any other number of streams than two, with the entry of dataset.json that gives two.
    """
    if len(streams) == 2:
        return
    channels = sorted(index for stream in streams for index in stream)
    if len(channels) < 2:
        raise XModalError("features of two modalities are to be fused but the dataset has a single channel.")
    half = len(channels) // 2
    raise XModalError(
        f"exactly two streams are fused but the plans hold {len(streams)}, {[list(stream) for stream in streams]}: "
        f'write for example "xmodal": {{"streams": [{channels[:half]}, {channels[half:]}]}} into dataset.json, with '
        "the channels that belong together side by side, and plan again."
    )


class StreamGrouping(nn.Module):
    """The streams as a buffer, so that weights know which channels they read.

    Two groupings with as many channels each have weights of the same shapes; loading those of the other one would go
    unnoticed. The buffer has one length for all groupings, because nnU-Net compares shapes first.

    Raises:
        XModalError: when a state of other streams is loaded, before any weight is.
    """

    length = 1024  # bytes, enough for some two hundred channels

    def __init__(self, streams: Sequence[Sequence[int]]):
        super().__init__()
        self.streams = [list(stream) for stream in streams]
        text = json.dumps(self.streams, separators=(",", ":")).encode()
        if len(text) > self.length:
            raise XModalError(f"streams of {sum(map(len, self.streams))} channels are more than a checkpoint can name.")
        self.register_buffer("encoded", torch.tensor(list(text.ljust(self.length)), dtype=torch.uint8))

    def _load_from_state_dict(self, state_dict, prefix, *args):
        encoded = state_dict.get(f"{prefix}encoded")
        if encoded is not None and not encoded.is_meta:
            theirs = json.loads(bytes(encoded.tolist()))
            if theirs != self.streams:
                raise XModalError(
                    f"the weights were trained on the streams {theirs}, but the plans or dataset.json say "
                    f"{self.streams}: restore the streams, or train without these weights."
                )
        super()._load_from_state_dict(state_dict, prefix, *args)


class TappedDecoder(UNetDecoder):
    """nnU-Net's decoder, which can also return what its last two convolution layers put out."""

    def with_taps(self, skips: list[torch.Tensor]) -> tuple[list[torch.Tensor], Taps]:
        """Logits from fine to coarse, the finest alone without deep supervision, and the last two layers' outputs.

        A stage begins with its transposed convolution, which is one of the two where the plans give the finest stage
        a single convolution (those of residual encoders). Both outputs, each behind its norm and nonlinearity if it
        has them, are `(B, output_channels[0], *finest)`.
        """
        x, logits = skips[-1], []
        for upsample, stage, head, skip in zip(self.transpconvs, self.stages, self.seg_layers, reversed(skips[:-1])):
            first, *others = stage.convs
            layers = [upsample(x)]
            layers.append(first(torch.cat((layers[0], skip), 1)))
            for conv in others:
                layers.append(conv(layers[-1]))
            x = layers[-1]
            if self.deep_supervision or head is self.seg_layers[-1]:
                logits.append(head(x))
        return logits[::-1], (layers[-2], layers[-1])


class UNetBranch(nn.Module):
    """S_A or S_B: nnU-Net's own network with its names of parameters, "quite similar … to the generator" (Sec. 3.2).

    Shape: `(B, input_channels, *spatial)` → logits as nnU-Net has them; `with_taps` see TappedDecoder.
    """

    def __init__(self, architecture: dict, input_channels: int, num_classes: int, deep_supervision: bool):
        super().__init__()
        self.encoder = encoder_of(architecture, input_channels)
        n_convolutions = architecture["n_conv_per_stage_decoder"]
        self.decoder = TappedDecoder(self.encoder, num_classes, n_convolutions, deep_supervision)
        unused_heads_without_gradient(self.decoder.seg_layers, deep_supervision)

    def forward(self, x: torch.Tensor):
        return self.decoder(self.encoder(x))

    def with_taps(self, x: torch.Tensor) -> tuple[list[torch.Tensor], Taps]:
        return self.decoder.with_taps(self.encoder(x))

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        return self.encoder.compute_conv_feature_map_size(input_size) + self.decoder.compute_conv_feature_map_size(
            input_size
        )


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
    ):
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
        earlier, last = zip(*taps)
        features = self.earlier(torch.cat(earlier, 1))  # B C *spatial
        features = self.last(torch.cat((features, *last), 1))  # B C *spatial
        if self.attention is not None:
            features = self.attention(features)
        if self.guidance is not None:
            features = self.guidance(features, branch_logits, regions, present)
        return self.seg_layers[0](features)

    def compute_conv_feature_map_size(self, size: Sequence[int]) -> int:
        """Numbers in the outputs of its convolutions for features of this size."""
        own = (2 * self.last.output_channels + self.seg_layers[0].out_channels) * prod(size)
        return own if self.attention is None else own + self.attention.compute_conv_feature_map_size(size)


class BranchesUNet(nn.Module):
    """S_A, S_B or the mean of both, without a fusion branch: the first three baselines of Table 2.

    Args:
        input_channels, num_classes, deep_supervision: as nnU-Net passes them.
        streams: exactly two lists of channels, A's and B's; channels that none names (those of a cascade) go to both.
        branches: "A", "B" or "AB".
        regions: whether the outputs are regions, with a sigmoid each, instead of labels with a softmax.
        architecture: `arch_kwargs` of PlainConvUNet or ResidualEncoderUNet plans.

    Shape: `(B, input_channels, *spatial)` → logits `(B, num_classes, *spatial)`, or a list of them from fine to
    coarse with deep supervision. With both branches these are in eval mode the logits of the mean probability, and
    in training mode `(logits of A, (logits of B,))`.

    Raises:
        XModalError: for another number of streams than two.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        streams: list[list[int]],
        deep_supervision: bool = False,
        *,
        branches: str = "AB",
        regions: bool = False,
        **architecture,
    ):
        super().__init__()
        check_two_streams(streams)
        self.input_channels = input_channels
        self.regions = regions
        self.grouping = StreamGrouping(streams)  # the first of the modules, to be loaded before the others
        channels = dict(zip("AB", with_unnamed(streams, input_channels)))
        self.stream_channels = [channels[name] for name in branches]
        self.branches = nn.ModuleDict(
            {name: UNetBranch(architecture, len(channels[name]), num_classes, deep_supervision) for name in branches}
        )
        self.total_stride = np.prod(self._first_encoder.strides, axis=0).tolist()

    @property
    def _first_encoder(self) -> nn.Module:
        return next(iter(self.branches.values())).encoder

    @property
    def encoder(self) -> nn.Module:
        """Itself: where others ask a network for `encoder.stream_channels` and `encoder.stream_features`."""
        return self

    @property
    def decoder(self) -> nn.Module:
        """Itself: nnU-Net switches `decoder.deep_supervision`."""
        return self

    @property
    def deep_supervision(self) -> bool:
        return next(iter(self.branches.values())).decoder.deep_supervision

    @deep_supervision.setter
    def deep_supervision(self, enabled: bool) -> None:
        for branch in self.branches.values():
            branch.decoder.deep_supervision = enabled

    def stream_features(self, x: torch.Tensor) -> list[list[torch.Tensor]]:
        """Features of the encoders, `[branch][level]`."""
        return [branch.encoder(stream) for branch, stream in zip(self.branches.values(), self._streams(x))]

    def _streams(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x[:, channels] for channels in self.stream_channels]

    def forward(self, x: torch.Tensor):
        check_input(x, self.input_channels, self.total_stride, self.training)
        first, *others = (branch(stream) for branch, stream in zip(self.branches.values(), self._streams(x)))
        if not others:
            return first
        if self.training:
            return first, tuple(others)
        if not self.deep_supervision:
            return logits_of_mean_probability(first, others[0], self.regions)
        return [logits_of_mean_probability(a, b, self.regions) for a, b in zip(first, others[0])]

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Numbers in the outputs of all convolutions for one sample; nnU-Net plans patch and batch by it."""
        return sum(branch.compute_conv_feature_map_size(input_size) for branch in self.branches.values())

    initialize = staticmethod(MultiStreamUNet.initialize)


class CMFFUNet(BranchesUNet):
    """S_A and S_B, and the fusion branch S_F behind them.

    S_F exists on the full resolution only: with deep supervision its list has one entry, the branches' have one per
    level.

    Args:
        guidance: the mask-guided attention block, None for "Ours w/o MG" of Table 2.
        attention: `(conv_op, channels)` → block of S_F's features, e.g. CBAM for "Ours w CA".
        stream_dropout: draws in training mode which streams of a sample are present.
        The others are those of BranchesUNet.

    Shape: `(B, input_channels, *spatial)` → in eval mode logits of S_F, `(B, num_classes, *spatial)` or a list of
    them; in training mode `(logits of S_F, (logits of S_A, logits of S_B))`.

    `present`, bool `(B, 2)` with at least one True in each row, says which streams there are; None leaves it to
    `stream_dropout`, or means both. What an absent stream's channels hold, NaN included, changes neither output nor
    gradient: S_F reads 0 in the place of its branch and is guided by the other's mask, and its branch's logits are
    the other's, as constants, so that a loss of them teaches it nothing.

    Raises:
        XModalError: for another number of streams than two.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        streams: list[list[int]],
        deep_supervision: bool = False,
        *,
        guidance: MaskGuidedAttention | None = None,
        attention: Callable[..., nn.Module] | None = None,
        stream_dropout: StreamDropout | None = None,
        regions: bool = False,
        **architecture,
    ):
        super().__init__(input_channels, num_classes, streams, deep_supervision, regions=regions, **architecture)
        self.fusion = FusionBranch(self._first_encoder, num_classes, guidance, attention)
        self.stream_dropout = stream_dropout

    def forward(self, x: torch.Tensor, present: torch.Tensor | None = None):
        if present is None and self.stream_dropout is not None:
            present = self.stream_dropout(x, len(self.stream_channels))
        if present is not None:
            x = without_absent_channels(x, present, self.stream_channels)
        check_input(x, self.input_channels, self.total_stride, self.training)
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

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
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


def logits_of_mean_probability(first: torch.Tensor, second: torch.Tensor, regions: bool) -> torch.Tensor:
    """What nnU-Net's softmax, or its sigmoid where outputs are regions, turns into (p_first + p_second) / 2.

    In float32 and in logarithms, in which nothing vanishes.
    """
    first, second = first.float(), second.float()
    if regions:
        inside = torch.logaddexp(F.logsigmoid(first), F.logsigmoid(second))
        outside = torch.logaddexp(F.logsigmoid(-first), F.logsigmoid(-second))
        return inside - outside
    return torch.logaddexp(F.log_softmax(first, 1), F.log_softmax(second, 1)) - log(2)
