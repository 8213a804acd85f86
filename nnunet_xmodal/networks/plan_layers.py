"""The layers of nnU-Net's plans, for networks that arrange them in another way than nnU-Net's encoders and decoders."""

from collections.abc import Sequence
from typing import Any

from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp, get_matching_pool_op
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU, StackedConvBlocks
from torch import nn


class PlanLayers:
    """Makes convolutions with the plan's bias, norm, dropout and nonlinearity.

    Args:
        architecture: `arch_kwargs` of PlainConvUNet or ResidualEncoderUNet plans; blocks of the latter count as layers.

    Attributes:
        widths, kernels, strides: per level from fine to coarse.
        layers: how many convolutions an encoder has per level.
        decoder_layers: likewise of a decoder, from fine to coarse, one level less.
    """

    def __init__(self, architecture: dict[str, Any]) -> None:
        self.architecture = architecture
        self.conv_op = architecture["conv_op"]
        levels = architecture["n_stages"]
        self.widths = _per_level(architecture["features_per_stage"], levels)
        self.dimensions = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[self.conv_op]
        self.kernels, self.strides = (
            [_per_level(sides, self.dimensions) for sides in _per_level(architecture[name], levels)]
            for name in ("kernel_sizes", "strides")
        )
        name = "n_blocks_per_stage" if "n_blocks_per_stage" in architecture else "n_conv_per_stage"
        self.layers = _per_level(architecture[name], levels)
        self.decoder_layers = _per_level(architecture["n_conv_per_stage_decoder"], levels - 1)[::-1]

    @property
    def levels(self) -> int:
        """Return the number of levels, the bottleneck included."""
        return len(self.widths)

    def convolution(
        self,
        channels: int,
        width: int,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        active: bool = True,
    ) -> ConvDropoutNormReLU:
        """Return convolution, dropout, norm and, if it is `active`, nonlinearity."""
        return ConvDropoutNormReLU(
            self.conv_op, channels, width, _listed(kernel), _listed(stride), **self._kinds(), **self._nonlin(active)
        )

    def stack(self, number: int, channels: int, level: int) -> StackedConvBlocks:
        """Return a level's convolutions, the first of which reads this many channels."""
        width, kernel = self.widths[level], self.kernels[level]
        return StackedConvBlocks(
            number, self.conv_op, channels, width, kernel, 1, **self._kinds(), **self._nonlin(True)
        )

    def upsampling(self, channels: int, width: int, level: int) -> nn.Module:
        """Return the transposed convolution from a level to the next finer one."""
        stride = self.strides[level]
        return get_matching_convtransp(self.conv_op)(
            channels, width, stride, stride, bias=self.architecture["conv_bias"]
        )

    def pooling(self, level: int) -> nn.Module:
        """Return the max pooling that leads to a level."""
        stride = self.strides[level]
        return get_matching_pool_op(self.conv_op, pool_type="max")(kernel_size=stride, stride=stride)

    def norm(self, channels: int) -> nn.Module:
        """Return the plan's norm."""
        return self.architecture["norm_op"](channels, **(self.architecture["norm_op_kwargs"] or {}))

    def nonlin(self) -> nn.Module:
        """Return the plan's nonlinearity."""
        return self.architecture["nonlin"](**(self.architecture["nonlin_kwargs"] or {}))

    def head(self, channels: int, num_classes: int) -> nn.Module:
        """Return the 1×1 convolution that makes logits."""
        return self.conv_op(channels, num_classes, kernel_size=1)

    def reduction(self, channels: int, width: int) -> nn.Module:
        """Return a 1×1 convolution without norm and nonlinearity."""
        return self.conv_op(channels, width, kernel_size=1)

    def of_decoder(self) -> dict[str, Any]:
        """Return what nnU-Net's `UNetDecoder` asks of its encoder, beside `output_channels`."""
        names = ("norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin", "nonlin_kwargs", "conv_bias")
        kinds = {name: self.architecture[name] for name in names}
        return {"conv_op": self.conv_op, "strides": self.strides, "kernel_sizes": self.kernels, **kinds}

    def _kinds(self) -> dict[str, Any]:
        names = ("conv_bias", "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs")
        return {name: self.architecture[name] for name in names}

    def _nonlin(self, active: bool) -> dict[str, Any]:
        return {name: self.architecture[name] for name in ("nonlin", "nonlin_kwargs")} if active else {}


def _per_level(value: Any, levels: int) -> list:
    return list(value) if isinstance(value, list | tuple) else [value] * levels


def _listed(value: int | Sequence[int]) -> int | list[int]:
    return value if isinstance(value, int) else list(value)
