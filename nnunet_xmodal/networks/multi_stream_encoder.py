"""One encoder per stream, their skips fused per level (the "Encoder sub-network" of CSAD, Fig. 1)."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.present_streams import other_where_absent, zero_where_absent
from nnunet_xmodal.networks.blocks.some_channels import some_channels
from nnunet_xmodal.networks.unet_plan import sizes_of_levels

Fusion = Callable[..., nn.Module]
"""`(conv_op, channels, n_streams, out_channels=channels)` → module that fuses the streams' features of one level."""

Exchange = Callable[..., nn.Module]
"""`(conv_op, widths, n_streams)` → module from the streams' features of all levels to features of the same shapes."""


class MultiStreamEncoder(nn.Module):
    """One encoder per stream, which offers nnU-Net's `UNetDecoder` what a single encoder would: skips from fine to
    coarse, widths, strides, ….

    On every level the streams' features are concatenated. With two or more streams a 1×1 convolution then brings
    them back to the plan's width, so that the decoder costs what it costs in nnU-Net: on S-fold skips it would cost
    S² as much. One stream passes unchanged.

    Args:
        stream_channels: per stream the indices of the channels that its encoder reads.
        encoder_of: number of channels → encoder.
        reduce_skips: False leaves the plain concatenation, S·C channels wide.
        reduce_some: whether samples that lack a stream have 1×1 convolutions of their own, so that those of complete
            samples need not serve both. Only with `reduce_skips` and two or more streams.
        fusion: makes the block that takes the place of concatenation at the bottleneck, e.g. SCFF.
        exchange: makes the block that the streams' features pass before they are fused, e.g. StreamGates.

    Attributes:
        slice_size: what slices are resized to before they are read, e.g. `(256, 256)`; None, as they come, until
            somebody sets it. Of 2D networks.

    Shape: `(B, input_channels, *spatial)` → list over levels of `(B, output_channels[level], *spatial_of_level)`.
    """

    def __init__(
        self,
        stream_channels: list[list[int]],
        encoder_of: Callable[[int], nn.Module],
        reduce_skips: bool = True,
        fusion: Fusion | None = None,
        exchange: Exchange | None = None,
        reduce_some: bool = False,
    ) -> None:
        super().__init__()
        self.stream_channels = stream_channels
        self.streams = nn.ModuleList(encoder_of(len(channels)) for channels in stream_channels)
        first = self.streams[0]
        widths = list(first.output_channels)
        n_streams = len(self.streams)

        self.slice_size: tuple[int, ...] | None = None
        self.exchange = exchange and exchange(first.conv_op, widths, n_streams)
        self.fusion = None if fusion is None else fusion(first.conv_op, widths[-1], n_streams)
        concatenated = widths if self.fusion is None else widths[:-1]
        reduce = reduce_skips and n_streams > 1

        def reductions() -> nn.ModuleList:
            return nn.ModuleList(
                first.conv_op(n_streams * width, width, kernel_size=1) if reduce else nn.Identity()
                for width in concatenated
            )

        self.reductions = reductions()
        self.reductions_of_some = reductions() if reduce_some and reduce else None
        factor = 1 if reduce else n_streams
        self.output_channels = [factor * width for width in concatenated] + widths[len(concatenated) :]

        # what UNetDecoder asks of its encoder
        self.strides = first.strides
        self.kernel_sizes = first.kernel_sizes
        self.conv_op = first.conv_op
        self.conv_bias = first.conv_bias
        self.norm_op, self.norm_op_kwargs = first.norm_op, first.norm_op_kwargs
        self.nonlin, self.nonlin_kwargs = first.nonlin, first.nonlin_kwargs
        self.dropout_op, self.dropout_op_kwargs = first.dropout_op, first.dropout_op_kwargs

    def stream_features(self, x: torch.Tensor, present: torch.Tensor | None = None) -> list[list[torch.Tensor]]:
        """Return F_m^k, `[stream k][level m]`, `(B, C_m, *spatial_m)`; 0 where bool `present` `(B, S)` is False."""
        if self.slice_size is not None:
            x = F.interpolate(x, self.slice_size, mode="bilinear", align_corners=False)
        features = [
            encoder(some_channels(x, channels)) for encoder, channels in zip(self.streams, self.stream_channels)
        ]
        if present is None:
            return features
        return [
            [zero_where_absent(level, present[:, stream]) for level in levels] for stream, levels in enumerate(features)
        ]

    def fuse(
        self, stream_features: list[list[torch.Tensor]], present: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Fuse the streams: `[stream][level]`, and which are present → skips of the decoder, `[level]`."""
        if self.exchange is not None:
            stream_features = self.exchange(stream_features, present)
        levels = list(zip(*stream_features))
        concatenated = [torch.cat(level, 1) if len(level) > 1 else level[0] for level in levels[: len(self.reductions)]]
        skips = [reduction(level) for reduction, level in zip(self.reductions, concatenated)]
        if present is not None and self.reductions_of_some is not None:
            others = [reduction(level) for reduction, level in zip(self.reductions_of_some, concatenated)]
            skips = [other_where_absent(skip, present.all(1), other) for skip, other in zip(skips, others)]
        if self.fusion is not None:
            skips.append(self.fusion(list(levels[-1]), present))
        return skips

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the fused skips of every level; see the class."""
        return self.fuse(self.stream_features(x))

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one sample of this size, nnU-Net's measure of
        memory.
        """
        size = sum(encoder.compute_conv_feature_map_size(input_size) for encoder in self.streams)
        if self.exchange is not None:
            size += self.exchange.compute_conv_feature_map_size(sizes_of_levels(input_size, self.strides))
        for level, stride in enumerate(self.strides):
            input_size = [side // s for side, s in zip(input_size, stride)]
            if level < len(self.reductions):
                if not isinstance(self.reductions[level], nn.Identity):
                    size += np.prod([self.output_channels[level], *input_size], dtype=np.int64)
            elif self.fusion is not None:
                size += self.fusion.compute_conv_feature_map_size(input_size)
        return size
