"""HSCNet (Jia et al., Multimodal Brain Tumor Segmentation Using Encoder-Decoder with Hierarchical Separable
Convolution, 2019) on nnU-Net's levels.
"""

from typing import Any

from torch import nn

from nnunet_xmodal.networks.blocks.hierarchical_separable import HierarchicalSeparableConvolution
from nnunet_xmodal.networks.plan_layers import PlanLayers
from nnunet_xmodal.networks.segmenting_unet import SegmentingUNet
from nnunet_xmodal.networks.stage_decoder import OneStreamEncoder, StageDecoder


class HSCNet(SegmentingUNet):
    """An encoder for all channels and a decoder whose convolutions are hierarchical and separable.

    A level begins with a convolution of the plan, which has its stride; its other convolutions, at least one, are
    HierarchicalSeparableConvolutions, and so are all of the decoder's.

    Args:
        views: see HierarchicalSeparableConvolution.
        The others are those of HyperDenseNet.

    Shape: as HyperDenseNet.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        streams: list[list[int]],
        deep_supervision: bool = False,
        *,
        views: tuple[int, int] = (-1, 0),
        **architecture: Any,
    ) -> None:
        layers = PlanLayers(architecture)
        widths = layers.widths

        def separable(number: int, channels: int, level: int) -> nn.Sequential:
            read = [channels, *[widths[level]] * (number - 1)]
            kernel = layers.kernels[level]
            return nn.Sequential(
                *(HierarchicalSeparableConvolution(layers, n, widths[level], kernel, views) for n in read)
            )

        stages = []
        for level, channels in enumerate([input_channels, *widths[:-1]]):
            first = layers.convolution(channels, widths[level], layers.kernels[level], layers.strides[level])
            stages.append(nn.Sequential(first, separable(max(1, layers.layers[level] - 1), widths[level], level)))

        def stage(channels: int, level: int) -> nn.Module:
            return separable(layers.decoder_layers[level], channels, level)

        decoder = StageDecoder(layers, widths, stage, widths.__getitem__, num_classes, deep_supervision)
        super().__init__(input_channels, layers.strides, OneStreamEncoder(input_channels, stages), decoder)
