"""U-Net with one encoder per stream: the network of CSAD, SCFF and their baselines (Zhang et al., 2020, Fig. 1)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He, init_last_bn_before_add_to_0
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths
from nnunet_xmodal.networks.blocks.present_streams import without_absent_channels
from nnunet_xmodal.networks.blocks.stream_dropout import StreamDropout
from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.multi_stream_encoder import Exchange, Fusion, MultiStreamEncoder
from nnunet_xmodal.networks.unet_plan import encoder_of, sizes_of_levels, unused_heads_without_gradient, with_unnamed

SkipAttention = Callable[..., nn.Module]
"""`(conv_op, widths, norm_op)` → module from skips to skips of the same shapes, e.g. AttentionGates."""


class MultiStreamUNet(nn.Module):
    """Encoders of nnU-Net's plan side by side, nnU-Net's decoder behind them.

    The constructor takes what nnU-Net's plans hold, so that plans can name this class, and the blocks of the paper.
    With one stream and no block it is nnU-Net's own network.

    Args:
        input_channels, num_classes, deep_supervision: as nnU-Net passes them.
        streams: per encoder the indices of its channels; channels that none names (those of a cascade) go to all.
        ignored_channels: image channels that no encoder reads.
        reduce_skips, reduce_some, fusion, exchange: see MultiStreamEncoder.
        attention: makes the module that the fused skips pass on their way to the decoder.
        distillation: makes pairs of attention maps of the encoders' features; used in training mode only.
        stream_dropout: draws in training mode, of the streams that a sample has, which are present.
        architecture: `arch_kwargs` of PlainConvUNet or ResidualEncoderUNet plans.

    Shape: `(B, input_channels, *spatial)` → logits `(B, num_classes, *spatial)`, or a list of them from fine to
    coarse with deep supervision; in training mode with distillation `(logits, pairs of log attention maps)`.

    `present`, bool `(B, S)` with at least one True in each row, says which streams there are, of which `stream_dropout`
    drops some in training; None means all. What an absent stream's channels hold, NaN included, changes neither output
    nor gradient: its features are 0 in the skips, `fusion` leaves it out, and pairs of maps with it are equal.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        streams: list[list[int]],
        deep_supervision: bool = False,
        *,
        ignored_channels: Sequence[int] = (),
        reduce_skips: bool = True,
        reduce_some: bool = False,
        fusion: Fusion | None = None,
        exchange: Exchange | None = None,
        attention: SkipAttention | None = None,
        distillation: DistillationPaths | None = None,
        stream_dropout: StreamDropout | None = None,
        **architecture: Any,
    ) -> None:
        super().__init__()
        self.input_channels = input_channels
        self.encoder = MultiStreamEncoder(
            with_unnamed(streams, input_channels, ignored_channels),
            partial(encoder_of, architecture),
            reduce_skips,
            fusion,
            exchange,
            reduce_some,
        )
        widths = self.encoder.output_channels
        self.attention = attention and attention(self.encoder.conv_op, widths, self.encoder.norm_op)
        self.decoder = UNetDecoder(
            self.encoder, num_classes, architecture["n_conv_per_stage_decoder"], deep_supervision
        )
        unused_heads_without_gradient(self.decoder.seg_layers, deep_supervision)
        self.distillation = distillation
        self.stream_dropout = stream_dropout
        self.total_stride = np.prod(self.encoder.strides, axis=0).tolist()

    def forward(
        self, x: torch.Tensor, present: torch.Tensor | None = None
    ) -> torch.Tensor | list[torch.Tensor] | tuple:
        """Return the logits; see the class."""
        if self.stream_dropout is not None:
            present = self.stream_dropout(x, len(self.encoder.stream_channels), present)
        if present is not None:
            x = without_absent_channels(x, present, self.encoder.stream_channels)
        check_input(x, self.input_channels, self.total_stride, self.training)
        stream_features = self.encoder.stream_features(x, present)
        skips = self.encoder.fuse(stream_features, present)
        logits = self.decoder(skips if self.attention is None else self.attention(skips))
        read_as = self.encoder.slice_size
        if read_as is not None:
            logits = _resized_back(logits, x.shape[2:], read_as)
        if self.training and self.distillation is not None:
            return logits, self.distillation(stream_features, present)
        return logits

    @property
    def knows_absence(self) -> bool:
        """Tell whether it was made to be without a stream."""
        return self.stream_dropout is not None

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one sample; nnU-Net plans patch and batch by it."""
        size = self.encoder.compute_conv_feature_map_size(input_size)
        size += self.decoder.compute_conv_feature_map_size(input_size)
        return (
            size
            if self.attention is None
            else size + self.attention.compute_conv_feature_map_size(sizes_of_levels(input_size, self.encoder.strides))
        )

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialise a module as nnU-Net does for both of its encoder families."""
        InitWeights_He(1e-2)(module)
        init_last_bn_before_add_to_0(module)


def _resized_back(
    logits: torch.Tensor | list[torch.Tensor], size: torch.Size, read_as: Sequence[int]
) -> torch.Tensor | list[torch.Tensor]:
    """Of slices resized to `read_as` → on the grid of the slices, coarser levels with as much coarser ones."""
    if isinstance(logits, list):
        return [_resized_back(level, size, read_as) for level in logits]
    sides = [side * of // resized for side, of, resized in zip(logits.shape[2:], size, read_as)]
    return F.interpolate(logits, sides, mode="bilinear", align_corners=False)
