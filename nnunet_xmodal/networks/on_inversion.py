"""A network that corrects a map which is one of its inputs."""

from collections.abc import Sequence

import torch
from torch import nn


class OnInversion(nn.Module):
    """y = x_b + s_b · network(x / s): what the network adds to input channel b, in physical units.

    Without parameters of its own. Untrained, where the network's last layer is 0, it returns channel b.

    Args:
        network: `(B, C, *spatial)` → `(B, K, *spatial)`.
        scale: s of each of the C channels.
        base: b.
    """

    def __init__(self, network: nn.Module, scale: Sequence[float], base: int) -> None:
        super().__init__()
        self.network = network
        self.input_scale, self.base = list(map(float, scale)), base
        self.output_scale = self.input_scale[base]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x_b + s_b · network(x / s)."""
        channels = [x[:, index : index + 1] / scale for index, scale in enumerate(self.input_scale)]
        # in float32: in half precision small maps would lose digits
        return (
            x[:, self.base : self.base + 1].float() + self.network(torch.cat(channels, 1)).float() * self.output_scale
        )

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Return the count of the network."""
        return self.network.compute_conv_feature_map_size(input_size)
