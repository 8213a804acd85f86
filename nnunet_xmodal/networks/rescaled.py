"""A network whose input and output are in physical units, and which works on numbers around one."""

from collections.abc import Sequence

import torch
from torch import nn


class Rescaled(nn.Module):
    """y = s_y · network(x / s_x): without parameters of its own, and without an offset, so that 0 stays what it is.

    Args:
        network: `(B, C, *spatial)` → `(B, K, *spatial)`.
        input_scale: s_x of each of the C channels.
        output_scale: s_y of all K channels.
    """

    def __init__(self, network: nn.Module, input_scale: Sequence[float], output_scale: float) -> None:
        super().__init__()
        self.network = network
        self.input_scale, self.output_scale = list(map(float, input_scale)), float(output_scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return s_y · network(x / s_x)."""
        channels = [x[:, index : index + 1] / scale for index, scale in enumerate(self.input_scale)]
        # in float32: in half precision small maps would lose digits
        return self.network(torch.cat(channels, 1)).float() * self.output_scale

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Return the count of the network."""
        return self.network.compute_conv_feature_map_size(input_size)
