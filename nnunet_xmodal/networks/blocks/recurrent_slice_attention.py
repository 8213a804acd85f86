"""Recurrent slice-wise attention (Zhang et al., RSANet, 2019): slices along one axis after the other."""

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.axis_affinity import aggregate, axis_affinity
from nnunet_xmodal.numerics import full_precision


class RecurrentSliceAttention(nn.Module):
    """X ← X + γ_p · A^p g(X) for every spatial axis p in turn, with A^p = softmax(θ(X)_p φ(X)_pᵀ) between its slices.

    θ, φ and g are shared by the steps and computed anew in each, from what the one before made; every γ begins at 0.
    Three steps let every position see every other.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        channels: C.

    Shape: `(B, C, *spatial)` → the same.
    """

    def __init__(self, conv_op: type[nn.Module], channels: int) -> None:
        super().__init__()
        self.theta = conv_op(channels, channels, kernel_size=1)
        self.phi = conv_op(channels, channels, kernel_size=1)
        self.g = conv_op(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(len(self.theta.kernel_size)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend between slices along each axis in turn; see the class."""
        for step, gamma in enumerate(self.gamma):
            theta, phi, g = self.theta(x), self.phi(x), self.g(x)
            with full_precision(x):
                exact = torch.promote_types(theta.dtype, torch.float32)
                affinity = axis_affinity(theta.to(exact), phi.to(exact), step + 2)
            x = x + gamma.to(g.dtype) * aggregate(affinity.to(g.dtype), g, step + 2)
        return x

    def compute_conv_feature_map_size(self, size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions, nnU-Net's measure of memory."""
        return 3 * len(self.gamma) * self.g.out_channels * torch.Size(size).numel()
