"""U-Net of streams that sees every training sample twice: with all its streams and with some of them."""

import torch

from nnunet_xmodal.networks.blocks.present_streams import without_absent_channels, zero_where_absent
from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet


class TwiceDecodedUNet(MultiStreamUNet):
    """MultiStreamUNet whose `stream_dropout` costs no complete sample: in training mode every sample is decoded with
    all the streams that it has and again with those that were drawn. Encoders run once, because no stream's features
    depend on another's.

    Arguments as MultiStreamUNet's, without `distillation`; `stream_dropout` is best SomeStreams, which draws no
    complete sample a second time. The weights are MultiStreamUNet's.

    Shape: in training mode `(B, input_channels, *spatial)` → logits of `2·B` samples, those with all that they have
    first; in eval mode as MultiStreamUNet. `present` says which streams there are, as there.
    """

    def forward(
        self, x: torch.Tensor, present: torch.Tensor | None = None
    ) -> torch.Tensor | list[torch.Tensor] | tuple:
        """Return the logits; see the class."""
        if self.stream_dropout is None or not self.stream_dropout.training:
            return super().forward(x, present)
        drawn = self.stream_dropout(x, len(self.encoder.stream_channels), present)
        if present is None:
            present = torch.ones_like(drawn)
        else:
            x = without_absent_channels(x, present, self.encoder.stream_channels)
        check_input(x, self.input_channels, self.total_stride, self.training)
        both = torch.cat((present, drawn))
        features = [
            [zero_where_absent(torch.cat((level, level)), both[:, stream]) for level in levels]
            for stream, levels in enumerate(self.encoder.stream_features(x))
        ]
        skips = self.encoder.fuse(features, both)
        return self.decoder(skips if self.attention is None else self.attention(skips))
