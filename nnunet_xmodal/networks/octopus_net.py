"""OctopusNet (Chen et al., OctopusNet: A Deep Learning Segmentation Network for Multi-modal Medical Images, 2019)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.resized import resized
from nnunet_xmodal.networks.multi_stream_encoder import MultiStreamEncoder
from nnunet_xmodal.networks.plan_layers import PlanLayers
from nnunet_xmodal.networks.segmenting_unet import SegmentingUNet
from nnunet_xmodal.networks.unet_plan import encoder_of, unused_heads_without_gradient, with_unnamed


class HyperFusion(nn.Module):
    """A 1×1 convolution of the concatenation of feature maps of any resolution, upsampled linearly to the finest.

    It is computed as Σ_k up(W_k·f_k) + b, which is the same, because a 1×1 convolution and an interpolation commute:
    every map is brought to few channels where it is small, and the concatenation, S·C + Σ C_k channels wide, never
    exists.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        channels: of each map, the finest first.
        width: of the result.

    Shape: list of `(B, channels[k], *spatial_k)`, `spatial_0` the largest → `(B, width, *spatial_0)`.
    """

    def __init__(self, conv_op: type[nn.Module], channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            conv_op(read, width, kernel_size=1, bias=index == 0) for index, read in enumerate(channels)
        )

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fuse the maps; see the class."""
        size = maps[0].shape[2:]
        fused = 0
        for part, features in zip(self.parts, maps):
            fused = fused + resized(part(features), size)
        return fused


class HyperFusionDecoder(nn.Module):
    """Every stage reads the features of all encoders at its level and those of all coarser stages.

    A stage is a HyperFusion to the plan's width, and the plan's convolutions. The coarsest stage is the fusion of the
    encoders' bottlenecks alone.

    Args:
        layers: of the plan.
        n_streams: S.
        num_classes, deep_supervision: as nnU-Net's `UNetDecoder` takes them.

    Shape: `[stream][level]` → logits `(B, num_classes, *spatial)`, or with `deep_supervision` a list of them from fine
    to coarse.
    """

    def __init__(self, layers: PlanLayers, n_streams: int, num_classes: int, deep_supervision: bool) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        widths = layers.widths
        coarse_to_fine = range(layers.levels - 1, -1, -1)
        self.fusions = nn.ModuleList(
            HyperFusion(layers.conv_op, [*[widths[level]] * n_streams, *widths[level + 1 :]], widths[level])
            for level in coarse_to_fine
        )
        self.stages = nn.ModuleList(
            layers.stack(layers.decoder_layers[level], widths[level], level) for level in coarse_to_fine[1:]
        )
        self.seg_layers = nn.ModuleList(layers.head(widths[level], num_classes) for level in coarse_to_fine[1:])
        unused_heads_without_gradient(self.seg_layers, deep_supervision)

    def forward(self, stream_features: list[list[torch.Tensor]]) -> torch.Tensor | list[torch.Tensor]:
        """Return the logits; see the class."""
        *finer, bottleneck = zip(*stream_features)
        decoded = [self.fusions[0](bottleneck)]  # from fine to coarse
        for fusion, stage, of_streams in zip(self.fusions[1:], self.stages, finer[::-1]):
            decoded = [stage(fusion([*of_streams, *decoded])), *decoded]
        if not self.deep_supervision:
            return self.seg_layers[-1](decoded[0])
        return [head(features) for head, features in zip(list(self.seg_layers)[::-1], decoded)]


class OctopusNet(SegmentingUNet):
    """nnU-Net's encoder per stream and a HyperFusionDecoder; arguments and shapes as HyperDenseNet's."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        streams: list[list[int]],
        deep_supervision: bool = False,
        **architecture: Any,
    ) -> None:
        layers = PlanLayers(architecture)
        encoder = EncodersAlone(with_unnamed(streams, input_channels), partial(encoder_of, architecture), False)
        decoder = HyperFusionDecoder(layers, len(streams), num_classes, deep_supervision)
        super().__init__(input_channels, layers.strides, encoder, decoder)


class EncodersAlone(MultiStreamEncoder):
    """The encoders of MultiStreamEncoder, whose features a decoder fuses: `(B, C, *spatial)` → `[stream][level]`."""

    def forward(self, x: torch.Tensor) -> list[list[torch.Tensor]]:
        """Return the features of every stream and level."""
        return self.stream_features(x)
