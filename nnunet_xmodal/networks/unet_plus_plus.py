"""UNet++ (Zhou et al., UNet++: A Nested U-Net Architecture for Medical Image …, 2018) on nnU-Net's levels."""

from functools import partial
from typing import Any

import torch
from torch import nn

from nnunet_xmodal.networks.multi_stream_encoder import MultiStreamEncoder
from nnunet_xmodal.networks.plan_layers import PlanLayers
from nnunet_xmodal.networks.segmenting_unet import SegmentingUNet
from nnunet_xmodal.networks.unet_plan import encoder_of, unused_heads_without_gradient


class NestedDecoder(nn.Module):
    """Nested, dense skips: X_i0 is the skip of level i, and (Eq. 1)

        X_ij = H([X_i0, …, X_i(j−1), up(X_(i+1)(j−1))]),   i + j ≤ L

    with L the bottleneck's level, H the plan's convolutions and `up` its transposed one. Logits are made of X_0L, with
    deep supervision of all X_i(L−i), which lie on nnU-Net's levels, and in training mode of X_01 … X_0(L−1) as well,
    which are the paper's deep supervision. Nothing is pruned: prediction is X_0L's.

    Args:
        layers: of the plan.
        num_classes, deep_supervision: as nnU-Net's `UNetDecoder` takes them.

    Shape: skips `(B, widths[level], *spatial_of_level)` from fine to coarse → logits `(B, num_classes, *spatial)`; with
    `deep_supervision` a list of them from fine to coarse, and in training mode `(list, logits of X_01 … X_0(L−1))`.
    """

    def __init__(self, layers: PlanLayers, num_classes: int, deep_supervision: bool) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.last = layers.levels - 1
        widths = layers.widths
        self.ups, self.nodes = nn.ModuleDict(), nn.ModuleDict()
        for column in range(1, self.last + 1):
            for level in range(self.last + 1 - column):
                width = widths[level]
                self.ups[f"{level}_{column}"] = layers.upsampling(widths[level + 1], width, level + 1)
                number = layers.decoder_layers[level]
                self.nodes[f"{level}_{column}"] = layers.stack(number, (column + 1) * width, level)
        self.seg_layers = nn.ModuleList(layers.head(width, num_classes) for width in reversed(widths[:-1]))
        unused_heads_without_gradient(self.seg_layers, deep_supervision)
        heads = nn.ModuleList(layers.head(widths[0], num_classes) for _ in range(1, self.last))
        self.of_columns = nn.ModuleDict({"seg_layers": heads.requires_grad_(deep_supervision)})

    def forward(self, skips: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor] | tuple:
        """Return the logits; see the class."""
        rows = [[skip] for skip in skips]
        for column in range(1, self.last + 1):
            for level in range(self.last + 1 - column):
                name = f"{level}_{column}"
                up = self.ups[name](rows[level + 1][column - 1])
                rows[level].append(self.nodes[name](torch.cat((*rows[level], up), 1)))
        if not self.deep_supervision:
            return self.seg_layers[-1](rows[0][-1])
        logits = [head(row[-1]) for head, row in zip(list(self.seg_layers)[::-1], rows[:-1])]
        if not self.training:
            return logits
        return logits, [head(node) for head, node in zip(self.of_columns["seg_layers"], rows[0][1:-1])]


class UNetPlusPlus(SegmentingUNet):
    """nnU-Net's encoder of all channels and a NestedDecoder; arguments as HyperDenseNet's, all streams are one input.

    Shape: `(B, input_channels, *spatial)` → see NestedDecoder.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        streams: list[list[int]],
        deep_supervision: bool = False,
        **architecture: Any,
    ) -> None:
        layers = PlanLayers(architecture)
        encoder = MultiStreamEncoder([list(range(input_channels))], partial(encoder_of, architecture))
        decoder = NestedDecoder(layers, num_classes, deep_supervision)
        super().__init__(input_channels, layers.strides, encoder, decoder)
