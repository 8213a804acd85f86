"""HyperDenseNet (Dolz et al., HyperDense-Net: A Hyper-Densely Connected CNN …, 2019) on nnU-Net's levels.

The published network has nine convolutions of one resolution and no decoder. Here its dense connections run within
every level of nnU-Net's plan, and nnU-Net's decoder stands behind them.
"""

from typing import Any

import torch
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import nn

from nnunet_xmodal.networks.blocks.some_channels import some_channels
from nnunet_xmodal.networks.plan_layers import PlanLayers
from nnunet_xmodal.networks.segmenting_unet import SegmentingUNet
from nnunet_xmodal.networks.unet_plan import unused_heads_without_gradient, with_unnamed


class HyperDenseEncoder(nn.Module):
    """A path per stream; every layer reads what all layers before it on its level have put out, of all paths.

    Layer i of path p reads the concatenation x_p = [y_p1, y_q1, …, y_p(i−1), y_q(i−1), …], q the other paths in their
    order, and puts out y_pi of the plan's width; a path's own features stand before the others', as in the
    published code. The first layer of a level has the plan's stride and reads all of x_p of the level before. A skip
    is the first path's x of its level, brought to the plan's width by a 1×1 convolution.

    Args:
        stream_channels: per path the indices of its channels.
        layers: of the plan.

    Shape: `(B, C, *spatial)` → skips from fine to coarse, `(B, widths[level], *spatial_of_level)`.
    """

    def __init__(self, stream_channels: list[list[int]], layers: PlanLayers) -> None:
        super().__init__()
        self.stream_channels = stream_channels
        paths = len(stream_channels)
        self.output_channels = layers.widths
        for name, value in layers.of_decoder().items():  # what UNetDecoder asks of its encoder
            setattr(self, name, value)
        self.levels = nn.ModuleList()
        self.reductions = nn.ModuleList()
        channels = [len(stream) for stream in stream_channels]
        for level, (width, number) in enumerate(zip(layers.widths, layers.layers)):
            convolutions = nn.ModuleList()
            for layer in range(number):
                stride = 1 if layer else layers.strides[level]
                read = [paths * layer * width] * paths if layer else channels
                convolutions.append(
                    nn.ModuleList(layers.convolution(n, width, layers.kernels[level], stride) for n in read)
                )
            self.levels.append(convolutions)
            channels = [paths * number * width] * paths
            self.reductions.append(layers.reduction(channels[0], width))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the skips; see the class."""
        _, dense = self._run(x)
        return [reduction(level) for reduction, level in zip(self.reductions, dense)]

    def stream_features(self, x: torch.Tensor) -> list[list[torch.Tensor]]:
        """Return what the last layer of every level puts out, `[path][level]`."""
        return self._run(x)[0]

    def _run(self, x: torch.Tensor) -> tuple[list[list[torch.Tensor]], list[torch.Tensor]]:
        """Return the last layers' outputs, `[path][level]`, and all of the first path's x, `[level]`."""
        reads = [some_channels(x, channels) for channels in self.stream_channels]
        last, dense = [], []
        for convolutions in self.levels:
            outputs: list[list[torch.Tensor]] = []  # [layer][path]
            for of_paths in convolutions:
                outputs.append([convolution(read) for convolution, read in zip(of_paths, reads)])
                reads = [torch.cat(_own_first(outputs, path), 1) for path in range(len(of_paths))]
            last.append(outputs[-1])
            dense.append(reads[0])
        return [list(path) for path in zip(*last)], dense


def _own_first(outputs: list[list[torch.Tensor]], path: int) -> list[torch.Tensor]:
    return [one for layer in outputs for one in (layer[path], *layer[:path], *layer[path + 1 :])]


class HyperDenseNet(SegmentingUNet):
    """HyperDenseEncoder and nnU-Net's decoder; arguments as nnU-Net's plans hold them, `streams` as MultiStreamUNet's.

    Shape: `(B, input_channels, *spatial)` → logits `(B, num_classes, *spatial)`, or with deep supervision a list of
    them from fine to coarse.
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
        encoder = HyperDenseEncoder(with_unnamed(streams, input_channels), layers)
        decoder = UNetDecoder(encoder, num_classes, architecture["n_conv_per_stage_decoder"], deep_supervision)
        unused_heads_without_gradient(decoder.seg_layers, deep_supervision)
        super().__init__(input_channels, layers.strides, encoder, decoder)
