"""The backbone of susceptibility mapping in the folded attention paper (Zhang et al., 2021), a QSMnet of 3³ kernels."""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn

from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.unet_plan import sizes_of_levels

WIDTHS = (32, 64, 128, 256, 512)
"""Channels of the levels from fine to coarse: 22,581,217 parameters with one channel in and one out."""


class QSMUNet(nn.Module):
    """U-Net of two convolutions per level with batch normalisation and ReLU, max pooling, 2³ transposed convolutions.

    QSMnet (Yoon et al., 2018) has 5³ kernels; the paper's parameter counts are those of 3³.

    Args:
        input_channels: of the input, 1 for a field map.
        num_classes: channels of the output, linear: 1 for a susceptibility map.
        attention: `(conv_op, widths, norm_op)` → module from skips to skips of the same shapes, as MultiStreamUNet
            takes it; the paper's blocks stand at the bottom, see AtBottleneck.
        widths: channels of the levels from fine to coarse.

    Shape: `(B, input_channels, D, H, W)` with sides divisible by `total_stride` → `(B, num_classes, D, H, W)`.
    """

    def __init__(
        self,
        input_channels: int = 1,
        num_classes: int = 1,
        *,
        attention: Callable[..., nn.Module] | None = None,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        self.input_channels = input_channels
        self.encoder = PlainConvEncoder(
            input_channels,
            n_stages=len(widths),
            features_per_stage=list(widths),
            conv_op=nn.Conv3d,
            kernel_sizes=3,
            strides=[1] + [2] * (len(widths) - 1),
            n_conv_per_stage=2,
            conv_bias=True,
            norm_op=nn.BatchNorm3d,
            norm_op_kwargs={},
            nonlin=nn.ReLU,
            nonlin_kwargs={"inplace": True},
            return_skips=True,
            pool="max",
        )
        self.attention = attention and attention(nn.Conv3d, list(widths), nn.BatchNorm3d)
        self.decoder = UNetDecoder(self.encoder, num_classes, 2, deep_supervision=False)
        self.decoder.seg_layers = self.decoder.seg_layers[-1:]  # the others are for deep supervision
        self.total_stride = np.prod(self.encoder.strides, axis=0).tolist()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the susceptibility map; see the class."""
        check_input(x, self.input_channels, self.total_stride, self.training)
        skips = self.encoder(x)
        return self.decoder(skips if self.attention is None else self.attention(skips))

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one sample; nnU-Net plans patch and batch by it."""
        sizes = sizes_of_levels(input_size, self.encoder.strides)
        # nnU-Net's own count takes convolutions behind a pooling layer for those before it
        size = sum(2 * width * prod(level) for width, level in zip(self.encoder.output_channels, sizes))
        size += self.decoder.compute_conv_feature_map_size(input_size)
        return size if self.attention is None else size + self.attention.compute_conv_feature_map_size(sizes)

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialise a module by He's rule for ReLU, biases by 0."""
        InitWeights_He(0)(module)
