"""One network of nnU-Net per stream, whose last layers can be tapped (Zhang et al., 2021, Sec. 3.2), and their mean.

Names of parameters, by which weights travel between trainers: `branches.A.` and `branches.B.` are followed by the
names of nnU-Net's own network, which are those of the generators as well; last layers, and they alone, have names with
`.seg_layers.`.
"""

from math import log
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.some_channels import some_channels
from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.stream_grouping import StreamGrouping, check_two_streams
from nnunet_xmodal.networks.unet_plan import encoder_of, unused_heads_without_gradient, with_unnamed

Taps = tuple[torch.Tensor, torch.Tensor]


class TappedDecoder(UNetDecoder):
    """nnU-Net's decoder, which can also return what its last two convolution layers put out."""

    def with_taps(self, skips: list[torch.Tensor]) -> tuple[list[torch.Tensor], Taps]:
        """Return logits from fine to coarse, the finest alone without deep supervision, and the last two layers'
        outputs.

        A stage begins with its transposed convolution, which is one of the two where the plans give the finest stage
        a single convolution (those of residual encoders). Both outputs, each behind its norm and nonlinearity if it
        has them, are `(B, output_channels[0], *finest)`.
        """
        x, logits = skips[-1], []
        *coarser, finest = zip(self.transpconvs, self.stages, self.seg_layers, reversed(skips[:-1]))
        for upsample, stage, head, skip in coarser:
            x = stage(torch.cat((upsample(x), skip), 1))
            if self.deep_supervision:
                logits.append(head(x))
        upsample, stage, head, skip = finest
        first, *others = stage.convs
        layers = [upsample(x)]
        layers.append(first(torch.cat((layers[0], skip), 1)))
        for conv in others:
            layers.append(conv(layers[-1]))
        logits.append(head(layers[-1]))
        return logits[::-1], (layers[-2], layers[-1])


class UNetBranch(nn.Module):
    """S_A or S_B: nnU-Net's own network with its names of parameters, "quite similar … to the generator" (Sec. 3.2).

    Args:
        input_channels, num_classes, deep_supervision: as nnU-Net passes them.
        architecture: `arch_kwargs` of PlainConvUNet or ResidualEncoderUNet plans.

    Shape: `(B, input_channels, *spatial)` → logits as nnU-Net has them; `with_taps` see TappedDecoder.
    """

    def __init__(
        self, input_channels: int, num_classes: int, deep_supervision: bool = False, **architecture: Any
    ) -> None:
        super().__init__()
        self.encoder = encoder_of(architecture, input_channels)
        n_convolutions = architecture["n_conv_per_stage_decoder"]
        self.decoder = TappedDecoder(self.encoder, num_classes, n_convolutions, deep_supervision)
        unused_heads_without_gradient(self.decoder.seg_layers, deep_supervision)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return the logits; see the class."""
        return self.decoder(self.encoder(x))

    def with_taps(self, x: torch.Tensor) -> tuple[list[torch.Tensor], Taps]:
        """Return the logits and the last two layers' outputs, see TappedDecoder."""
        return self.decoder.with_taps(self.encoder(x))

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions for one sample."""
        return self.encoder.compute_conv_feature_map_size(input_size) + self.decoder.compute_conv_feature_map_size(
            input_size
        )


class BranchesUNet(nn.Module):
    """S_A, S_B or the mean of both, without a fusion branch: the first three baselines of Table 2.

    Args:
        input_channels: as nnU-Net passes them.
        streams: exactly two lists of channels, A's and B's; channels that none names (those of a cascade) go to both.
        branches: "A", "B" or "AB".
        regions: whether the outputs are regions, with a sigmoid each, instead of labels with a softmax.
        branch: what every UNetBranch takes.

    Shape: `(B, input_channels, *spatial)` → logits `(B, num_classes, *spatial)`, or a list of them from fine to
    coarse with deep supervision. With both branches these are in eval mode the logits of the mean probability, and
    in training mode `(logits of A, (logits of B,))`.

    Raises:
        XModalError: for another number of streams than two.
    """

    def __init__(
        self,
        input_channels: int,
        streams: list[list[int]],
        *,
        branches: str = "AB",
        regions: bool = False,
        **branch: Any,
    ) -> None:
        super().__init__()
        check_two_streams(streams)
        self.input_channels = input_channels
        self.regions = regions
        self.grouping = StreamGrouping(streams)  # the first of the modules, to be loaded before the others
        channels = dict(zip("AB", with_unnamed(streams, input_channels)))
        self.stream_channels = [channels[name] for name in branches]
        self.branches = nn.ModuleDict({name: UNetBranch(len(channels[name]), **branch) for name in branches})
        self.total_stride = np.prod(self._first_encoder.strides, axis=0).tolist()

    @property
    def _first_encoder(self) -> nn.Module:
        return next(iter(self.branches.values())).encoder

    @property
    def encoder(self) -> nn.Module:
        """Return the network itself, of which others ask `encoder.stream_channels` and `encoder.stream_features`."""
        return self

    @property
    def decoder(self) -> nn.Module:
        """Return the network itself: nnU-Net switches `decoder.deep_supervision`."""
        return self

    @property
    def deep_supervision(self) -> bool:
        """Tell whether the branches return logits of every level."""
        return next(iter(self.branches.values())).decoder.deep_supervision

    @deep_supervision.setter
    def deep_supervision(self, enabled: bool) -> None:
        for branch in self.branches.values():
            branch.decoder.deep_supervision = enabled

    def stream_features(self, x: torch.Tensor) -> list[list[torch.Tensor]]:
        """Return the features of the encoders, `[branch][level]`."""
        return [branch.encoder(stream) for branch, stream in zip(self.branches.values(), self._streams(x))]

    def _streams(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [some_channels(x, channels) for channels in self.stream_channels]

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor] | tuple:
        """Return the logits; see the class."""
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
        """Count the numbers in the outputs of all convolutions for one sample; nnU-Net plans patch and batch by it."""
        return sum(branch.compute_conv_feature_map_size(input_size) for branch in self.branches.values())

    initialize = staticmethod(MultiStreamUNet.initialize)


def logits_of_mean_probability(first: torch.Tensor, second: torch.Tensor, regions: bool) -> torch.Tensor:
    """Return what nnU-Net's softmax, or its sigmoid where outputs are regions, turns into (p_first + p_second) / 2.

    In float32 and in logarithms, in which nothing vanishes.
    """
    first, second = first.float(), second.float()
    if regions:
        inside = torch.logaddexp(F.logsigmoid(first), F.logsigmoid(second))
        outside = torch.logaddexp(F.logsigmoid(-first), F.logsigmoid(-second))
        return inside - outside
    return torch.logaddexp(F.log_softmax(first, 1), F.log_softmax(second, 1)) - log(2)
