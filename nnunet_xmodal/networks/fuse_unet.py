"""FuseUNet (Li et al., Learning Cross-Modal Deep Representations for Multi-Modal MR Image Segmentation, 2019).

Not the FuseUNet of 2025, which fuses levels. The name is that of Zhang et al. (2020, Table III).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.master_selection import MasterSelection
from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.multi_stream_encoder import MultiStreamEncoder
from nnunet_xmodal.networks.plan_layers import PlanLayers
from nnunet_xmodal.networks.segmenting_unet import SegmentingUNet
from nnunet_xmodal.networks.unet_plan import encoder_of, unused_heads_without_gradient, with_unnamed


class SelectingEncoder(MultiStreamEncoder):
    """MultiStreamEncoder in which a master selects what is taken of its assistants, level by level.

    Args:
        stream_channels, encoder_of: as MultiStreamEncoder takes them.
        master: number of the stream, from 0.
    """

    def __init__(self, stream_channels: list[list[int]], encoder_of: Callable[[int], nn.Module], master: int) -> None:
        super().__init__(stream_channels, encoder_of)
        self.selection = MasterSelection(self.conv_op, self.output_channels, len(self.streams), master)

    def selected(self, x: torch.Tensor) -> list[list[torch.Tensor]]:
        """Return the master's features and what is selected of the others, `[stream][level]`."""
        return self.selection(self.stream_features(x))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the skips of every level."""
        return self.fuse(self.selected(x))


class FuseUNet(SegmentingUNet):
    """An encoder per stream; a master stream weighs the others' features before they are concatenated.

    In training mode every stream is judged: a 1×1 convolution of the master's features of each level that a decoder
    has, and one of what is selected of each assistant, make logits, for DistilledFusionLoss.

    Args:
        master: number of the stream, from 0.
        The others are those of HyperDenseNet.

    Shape: `(B, input_channels, *spatial)` → logits `(B, num_classes, *spatial)`, or with deep supervision a list of
    them from fine to coarse; in training mode `(logits, [of the master, of each assistant in order])`, each as logits.

    Raises:
        XModalError: for a master that is no stream.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        streams: list[list[int]],
        deep_supervision: bool = False,
        *,
        master: int = 0,
        **architecture: Any,
    ) -> None:
        if not 0 <= master < len(streams):
            raise XModalError(f"the master is stream {master} but the plans hold {len(streams)}, {streams}.")
        layers = PlanLayers(architecture)
        encoder = SelectingEncoder(with_unnamed(streams, input_channels), partial(encoder_of, architecture), master)
        decoder = UNetDecoder(encoder, num_classes, architecture["n_conv_per_stage_decoder"], deep_supervision)
        unused_heads_without_gradient(decoder.seg_layers, deep_supervision)
        super().__init__(input_channels, layers.strides, encoder, decoder)
        self.order = [master, *(stream for stream in range(len(streams)) if stream != master)]
        self.judges = nn.ModuleList(
            nn.ModuleDict(
                {"seg_layers": nn.ModuleList(layers.head(width, num_classes) for width in reversed(layers.widths[:-1]))}
            )
            for _ in self.order
        )
        for judge in self.judges:
            unused_heads_without_gradient(judge["seg_layers"], deep_supervision)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor] | tuple:
        """Return the logits; see the class."""
        check_input(x, self.input_channels, self.total_stride, self.training)
        selected = self.encoder.selected(x)
        logits = self.decoder(self.encoder.fuse(selected))
        if not self.training:
            return logits
        return logits, [self._judged(judge, selected[stream]) for judge, stream in zip(self.judges, self.order)]

    def _judged(self, judge: nn.ModuleDict, features: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        heads = list(judge["seg_layers"])[::-1]  # from fine to coarse
        if not self.decoder.deep_supervision:
            return heads[0](features[0])
        return [head(level) for head, level in zip(heads, features)]
