"""Convolutional block attention module (Woo et al., CBAM, 2018)."""

from collections.abc import Sequence

import torch
from torch import nn


class CBAM(nn.Module):
    """F' = M_c(F) ⊙ F (Eq. 1), F'' = M_s(F') ⊙ F' (Eq. 2): first which channels matter, then where.

    M_c = sigmoid(MLP(mean over positions) + MLP(maximum over positions)), `(B, C)`, Eq. 3; M_s = sigmoid(7³
    convolution of the mean and of the maximum over channels), `(B, 1, *spatial)`, Eq. 4. No norm behind that
    convolution: the published code has one, the equation does not.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        channels: C.
        reduction: the MLP's hidden layer has C / reduction units, at least one.
        kernel_size: of the spatial convolution.

    Shape: `(B, C, *spatial)` → the same.
    """

    def __init__(self, conv_op: type[nn.Module], channels: int, reduction: int = 16, kernel_size: int = 7) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.conv = conv_op(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Weigh channels, then positions; see the class."""
        features = self.channel_attention(features) * features
        return self.spatial_attention(features) * features

    def channel_attention(self, features: torch.Tensor) -> torch.Tensor:
        """Return M_c, `(B, C, 1, …)`."""
        positions = features.flatten(2)  # B C N
        weights = (self.mlp(positions.mean(2)) + self.mlp(positions.amax(2))).sigmoid()  # B C
        return weights.view(*weights.shape, *[1] * (features.ndim - 2))

    def spatial_attention(self, features: torch.Tensor) -> torch.Tensor:
        """Return M_s, `(B, 1, *spatial)`."""
        pooled = torch.cat((features.mean(1, keepdim=True), features.amax(1, keepdim=True)), 1)  # B 2 *spatial
        return self.conv(pooled).sigmoid()

    def compute_conv_feature_map_size(self, size: Sequence[int]) -> int:
        """Count the numbers in the outputs of its convolutions, nnU-Net's measure of memory."""
        return torch.Size(size).numel()
