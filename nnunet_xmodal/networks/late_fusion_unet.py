"""U-Net per stream, fused behind the decoders: "SCFF goes after the Decoder" (Zhang et al., 2020, Sec. IV-E)."""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.at_most import at_most
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths
from nnunet_xmodal.networks.blocks.resized import resized
from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.multi_stream_encoder import Fusion, MultiStreamEncoder
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.unet_plan import encoder_of, unused_heads_without_gradient, with_unnamed

_POOL = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class LateFusionDecoder(nn.Module):
    """One decoder per stream; on every level their features are concatenated before the head.

    On the full resolution SCFF of the streams' features, pooled to at most `max_positions`, is upsampled and added to
    the concatenation: at 256² the correlation matrix of the literal reading would have 65,536² entries. It does not
    take the concatenation's place, as at the bottleneck: what was pooled has lost the edges that the heads need.

    Shape: `[stream][level]` → logits, or with `deep_supervision` a list of them from fine to coarse.
    """

    def __init__(
        self,
        encoder: MultiStreamEncoder,
        num_classes: int,
        n_conv_per_stage: int | Sequence[int],
        deep_supervision: bool,
        fusion: Fusion,
        max_positions: int = 1024,
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.max_positions = max_positions
        self.streams = nn.ModuleList()
        for stream in encoder.streams:
            decoder = UNetDecoder(stream, num_classes, n_conv_per_stage, deep_supervision=False)
            decoder.seg_layers = nn.ModuleList()  # the heads sit behind the fusion
            self.streams.append(decoder)
        n_streams = len(encoder.streams)
        widths = [n_streams * width for width in encoder.streams[0].output_channels]
        self.fusion = fusion(encoder.conv_op, widths[0] // n_streams, n_streams, out_channels=widths[0])
        self.seg_layers = nn.ModuleList(
            encoder.conv_op(width, num_classes, kernel_size=1) for width in reversed(widths[:-1])
        )

    def forward(self, stream_features: list[list[torch.Tensor]]) -> torch.Tensor | list[torch.Tensor]:
        """Return the logits; see the class."""
        decoded = [_decode(decoder, skips) for decoder, skips in zip(self.streams, stream_features)]
        outputs = []
        for level, (features, head) in enumerate(zip(zip(*decoded), self.seg_layers)):  # coarse to fine
            full_resolution = level == len(self.seg_layers) - 1
            if not full_resolution and not self.deep_supervision:
                continue
            fused = torch.cat(features, 1)  # B S·C *spatial
            if full_resolution:
                fused = fused + self._spatially_correlated(features)
            outputs.append(head(fused))
        return outputs[::-1] if self.deep_supervision else outputs[0]

    def _spatially_correlated(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        size = features[0].shape[2:]
        pooled_size = at_most(size, self.max_positions)
        fused = self.fusion([_POOL[len(size)](stream, pooled_size) for stream in features])  # B S·C *pooled_size
        return resized(fused, size)

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions for one sample of the *encoder's* input size."""
        size = self.fusion.compute_conv_feature_map_size(at_most(input_size, self.max_positions))
        for decoder in self.streams:
            # UNetDecoder counts a head of its own, which lies here
            size += decoder.compute_conv_feature_map_size(input_size) - self.seg_layers[0].out_channels * prod(
                input_size
            )
        sides = [input_size]
        for stride in self.streams[0].encoder.strides[1:-1]:
            sides.append([side // s for side, s in zip(sides[-1], stride)])
        heads = sides if self.deep_supervision else sides[:1]
        return size + self.seg_layers[0].out_channels * sum(prod(side) for side in heads)


def _decode(decoder: UNetDecoder, skips: list[torch.Tensor]) -> list[torch.Tensor]:
    """The features of every stage of nnU-Net's decoder, from coarse to fine, without heads."""
    features = [skips[-1]]
    for upsample, stage, skip in zip(decoder.transpconvs, decoder.stages, reversed(skips[:-1])):
        features.append(stage(torch.cat((upsample(features[-1]), skip), 1)))
    return features[1:]


class LateFusionUNet(nn.Module):
    """One encoder and one decoder per stream, SCFF behind them; arguments and shapes as in MultiStreamUNet.

    `max_positions` is to how many positions the full resolution is pooled for SCFF.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        streams: list[list[int]],
        deep_supervision: bool = False,
        *,
        fusion: Fusion,
        distillation: DistillationPaths | None = None,
        max_positions: int = 1024,
        **architecture: Any,
    ) -> None:
        super().__init__()
        self.input_channels = input_channels
        self.encoder = MultiStreamEncoder(
            with_unnamed(streams, input_channels), partial(encoder_of, architecture), reduce_skips=False
        )
        self.decoder = LateFusionDecoder(
            self.encoder,
            num_classes,
            architecture["n_conv_per_stage_decoder"],
            deep_supervision,
            fusion,
            max_positions,
        )
        unused_heads_without_gradient(self.decoder.seg_layers, deep_supervision)
        self.distillation = distillation
        self.total_stride = np.prod(self.encoder.strides, axis=0).tolist()

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor] | tuple:
        """Return the logits; see MultiStreamUNet."""
        check_input(x, self.input_channels, self.total_stride, self.training)
        stream_features = self.encoder.stream_features(x)
        logits = self.decoder(stream_features)
        if self.training and self.distillation is not None:
            return logits, self.distillation(stream_features)
        return logits

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one sample; nnU-Net plans patch and batch by it."""
        return self.encoder.compute_conv_feature_map_size(input_size) + self.decoder.compute_conv_feature_map_size(
            input_size
        )

    initialize = staticmethod(MultiStreamUNet.initialize)
