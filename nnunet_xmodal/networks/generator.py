"""The generator of cross-modality feature transition (Zhang et al., Cross-Modality Deep Feature Learning, 2021)."""

from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import nn

from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.unet_plan import encoder_of, unused_heads_without_gradient


class Generator(nn.Module):
    """nnU-Net's U-Net as planned, which returns an image: its last layer is linear, there is no deep supervision.

    Parameters have the names that they have in nnU-Net's own networks, and all but those of the heads (`.seg_layers.`)
    have the same shapes, so that a segmenter of the same plan takes them over as they are: "the only difference is
    the number of kernels set to the last convolutional layer" (Sec. 3.2). As in nnU-Net a head exists on every level
    and only the finest is used; the others get no gradient. Between a segmenter and a generator the number of
    parameters differs by (difference of outputs)·(width + 1), summed over all heads.

    Args:
        input_channels: those of the source stream, and those of a cascade.
        output_channels: those of the target stream.
        architecture: `arch_kwargs` of PlainConvUNet or ResidualEncoderUNet plans, `UNetPlan.architecture`.

    Shape: `(B, input_channels, *spatial)` → `(B, output_channels, *spatial)`, in normalised intensities.

    Raises:
        XModalError: in forward, for an input that the network cannot read, see check_input.
    """

    def __init__(self, input_channels: int, output_channels: int, **architecture: Any) -> None:
        super().__init__()
        self.input_channels = input_channels
        self.encoder = encoder_of(architecture, input_channels)
        n_convolutions = architecture["n_conv_per_stage_decoder"]
        self.decoder = UNetDecoder(self.encoder, output_channels, n_convolutions, deep_supervision=False)
        unused_heads_without_gradient(self.decoder.seg_layers, deep_supervision=False)
        self.total_stride = np.prod(self.encoder.strides, axis=0).tolist()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image; see the class."""
        check_input(x, self.input_channels, self.total_stride, self.training)
        return self.decoder(self.encoder(x))

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one sample; nnU-Net plans patch and batch by it."""
        return self.encoder.compute_conv_feature_map_size(input_size) + self.decoder.compute_conv_feature_map_size(
            input_size
        )

    initialize = staticmethod(MultiStreamUNet.initialize)
