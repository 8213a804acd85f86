"""What the networks of other papers share here: streams in front, a list of logits behind, a checked input."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet


class SegmentingUNet(nn.Module):
    """An encoder from images to skips, and a decoder from skips to logits.

    Args:
        input_channels: of the images, those of a cascade included.
        strides: per level.
        encoder: `(B, input_channels, *spatial)` → skips from fine to coarse; has `stream_channels` and
            `stream_features(x)`, see MultiStreamEncoder.
        decoder: skips → logits, a list of them from fine to coarse while its `deep_supervision` is True.

    Shape: `(B, input_channels, *spatial)` → the decoder's output.

    Raises:
        XModalError: in forward for another number of channels, a side that the strides do not divide, and NaN or
            infinity in evaluation.
    """

    def __init__(
        self, input_channels: int, strides: Sequence[Sequence[int]], encoder: nn.Module, decoder: nn.Module
    ) -> None:
        super().__init__()
        self.input_channels = input_channels
        self.encoder = encoder
        self.decoder = decoder
        self.total_stride = np.prod(strides, axis=0).tolist()

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor] | tuple:
        """Return the logits; see the class."""
        check_input(x, self.input_channels, self.total_stride, self.training)
        return self.decoder(self.encoder(x))

    initialize = staticmethod(MultiStreamUNet.initialize)
