"""nnU-Net's network for all channels, of which absent ones are 0: the baseline of models for any streams."""

from typing import Any

import torch

from nnunet_xmodal.networks.blocks.present_streams import without_absent_channels
from nnunet_xmodal.networks.blocks.stream_dropout import StreamDropout
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.unet_plan import with_unnamed


class ZeroFilledUNet(MultiStreamUNet):
    """One encoder, which reads 0, the mean of normalised intensities, where a channel is absent.

    Args:
        n_channels: image channels, each of which may be absent; what an input holds beyond are those of a cascade.
        channel_dropout: draws in training mode, of the channels that a sample has, which are present.
        The others are those of MultiStreamUNet without `streams` and `stream_dropout`.

    `present`, bool `(B, n_channels)`, says which channels there are; None means all. What an absent channel holds, NaN
    included, changes neither output nor gradient.
    """

    knows_absence = True

    def __init__(self, *, n_channels: int, channel_dropout: StreamDropout | None = None, **unet: Any) -> None:
        super().__init__(streams=[list(range(n_channels))], **unet)
        self.channels = with_unnamed([[channel] for channel in range(n_channels)], self.input_channels)
        self.channel_dropout = channel_dropout

    def forward(
        self, x: torch.Tensor, present: torch.Tensor | None = None
    ) -> torch.Tensor | list[torch.Tensor] | tuple:
        """Return the logits; see MultiStreamUNet."""
        if self.channel_dropout is not None:
            present = self.channel_dropout(x, len(self.channels), present)
        if present is not None:
            x = without_absent_channels(x, present, self.channels)
        return super().forward(x)
