"""MultiResUNet (Ibtehaz and Rahman, MultiResUNet: Rethinking the U-Net Architecture …, 2020, Fig. 5) on nnU-Net's
levels.
"""

from typing import Any

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.multi_res import MultiResBlock, ResPath, multi_res_widths
from nnunet_xmodal.networks.plan_layers import PlanLayers
from nnunet_xmodal.networks.segmenting_unet import SegmentingUNet
from nnunet_xmodal.networks.stage_decoder import OneStreamEncoder, StageDecoder

_LONGEST_PATH = 4


class MultiResEncoder(OneStreamEncoder):
    """A MultiRes block per level, max pooling between them, and a Res path on every skip.

    The finest path has four convolutions, every coarser one one less, at least one; the bottleneck has none.

    Shape: `(B, input_channels, *spatial)` → skips of the plan's widths, and the bottleneck's
    `Σ multi_res_widths(widths[-1])` channels.
    """

    def __init__(self, input_channels: int, layers: PlanLayers) -> None:
        stages, channels = [], input_channels
        for level, (width, kernel) in enumerate(zip(layers.widths, layers.kernels)):
            block = MultiResBlock(layers, channels, width, kernel)
            stages.append(nn.Sequential(layers.pooling(level), block) if level else block)
            channels = block.output_channels
        super().__init__(input_channels, stages)
        self.paths = nn.ModuleList(
            ResPath(layers, sum(multi_res_widths(width)), width, kernel, max(1, _LONGEST_PATH - level))
            for level, (width, kernel) in enumerate(zip(layers.widths[:-1], layers.kernels))
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the skips; see the class."""
        *skips, bottleneck = super().forward(x)
        return [*(path(skip) for path, skip in zip(self.paths, skips)), bottleneck]


class MultiResUNet(SegmentingUNet):
    """MultiRes blocks in encoder and decoder, Res paths between them; arguments and shapes as HyperDenseNet's.

    All streams are one input.
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

        def width_of(level: int) -> int:
            return sum(multi_res_widths(layers.widths[level]))

        def stage(channels: int, level: int) -> nn.Module:
            return MultiResBlock(layers, channels, layers.widths[level], layers.kernels[level])

        skips = [*layers.widths[:-1], width_of(layers.levels - 1)]
        decoder = StageDecoder(layers, skips, stage, width_of, num_classes, deep_supervision)
        super().__init__(input_channels, layers.strides, MultiResEncoder(input_channels, layers), decoder)
