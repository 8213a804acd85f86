"""mmFormer (Zhang et al., mmFormer: Multimodal Medical Transformer for Incomplete Multimodal Learning …, 2022)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder

from nnunet_xmodal.networks.blocks.modal_transformers import ModalTransformers
from nnunet_xmodal.networks.blocks.present_streams import other_where_absent, without_absent_channels, zero_where_absent
from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.unet_plan import unused_heads_without_gradient


class MMFormer(MultiStreamUNet):
    """MultiStreamUNet whose bottleneck is ModalTransformers', and in training a decoder that all streams share.

    That decoder segments each stream from its own features alone, be it dropped or not: what a stream's encoder finds
    must do without the others. A stream that a sample does not have says what the network says, and learns nothing.

    Args:
        patch_size: of the plans, for the learned positions of the bottleneck.
        dropout: of the transformers.
        The others are those of MultiStreamUNet.

    Shape: as MultiStreamUNet; in training mode `(logits, [logits of each stream, of the full resolution])`.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        streams: list[list[int]],
        deep_supervision: bool = False,
        *,
        patch_size: Sequence[int],
        dropout: float = 0.1,
        **options: Any,
    ) -> None:
        strides = [np.broadcast_to(stride, len(patch_size)) for stride in options["strides"]]
        size = [int(side // stride) for side, stride in zip(patch_size, np.prod(strides, axis=0))]
        fusion = partial(ModalTransformers, size=size, dropout=dropout)
        super().__init__(input_channels, num_classes, streams, deep_supervision, fusion=fusion, **options)
        self.of_each = UNetDecoder(
            self.encoder.streams[0], num_classes, options["n_conv_per_stage_decoder"], deep_supervision=False
        )
        unused_heads_without_gradient(self.of_each.seg_layers, False)

    def forward(
        self, x: torch.Tensor, present: torch.Tensor | None = None
    ) -> torch.Tensor | list[torch.Tensor] | tuple:
        """Return the logits; see the class."""
        if not self.training:
            return super().forward(x, present)
        given = present
        if self.stream_dropout is not None:
            present = self.stream_dropout(x, len(self.encoder.stream_channels), given)
        if given is not None:
            x = without_absent_channels(x, given, self.encoder.stream_channels)
        check_input(x, self.input_channels, self.total_stride, self.training)
        features = self.encoder.stream_features(x)
        of_each = [self.of_each(levels) for levels in features]
        if present is not None:
            features = [
                [zero_where_absent(level, present[:, stream]) for level in levels]
                for stream, levels in enumerate(features)
            ]
        logits = self.decoder(self.encoder.fuse(features, present))
        if given is not None:
            finest = (logits[0] if isinstance(logits, list) else logits).detach()
            of_each = [other_where_absent(one, given[:, stream], finest) for stream, one in enumerate(of_each)]
        return logits, of_each
