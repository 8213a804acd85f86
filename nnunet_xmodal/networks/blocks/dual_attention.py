"""Dual attention: between positions and between channels, side by side (Fu et al., Dual Attention Network, 2019)."""

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.axis_affinity import aggregate, axis_affinity
from nnunet_xmodal.networks.blocks.norms import batch_norm_of
from nnunet_xmodal.numerics import full_precision

_REDUCTION = 8  # of the channels of query and key


class PositionAttention(nn.Module):
    """X + γ · softmax(q(X) k(X)ᵀ) v(X) over positions, with q and k on C/8 channels; γ begins at 0.

    Shape: `(B, C, *spatial)` → the same.
    """

    def __init__(self, conv_op: type[nn.Module], channels: int) -> None:
        super().__init__()
        width = max(1, channels // _REDUCTION)
        self.query = conv_op(channels, width, kernel_size=1)
        self.key = conv_op(channels, width, kernel_size=1)
        self.value = conv_op(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend over positions; see the class."""
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))  # B C' N
        with full_precision(x):
            exact = torch.promote_types(value.dtype, torch.float32)
            query, key, wide = (t.to(exact).transpose(1, 2).contiguous().unsqueeze(1) for t in (query, key, value))
            mixed = F.scaled_dot_product_attention(query, key, wide, scale=1.0).squeeze(1)  # B N C
        return x + self.gamma.to(value.dtype) * mixed.transpose(1, 2).to(value.dtype).reshape(x.shape)


class ChannelAttention(nn.Module):
    """X + γ · softmax(max E − E) X over channels, E = X Xᵀ; γ begins at 0.

    Shape: `(B, C, *spatial)` → the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend over channels; see the class."""
        with full_precision(x):
            exact = x.to(torch.promote_types(x.dtype, torch.float32))
            affinity = axis_affinity(exact, exact, 1, invert=True)
        return x + self.gamma.to(x.dtype) * aggregate(affinity.to(x.dtype), x, 1)


class DualAttention(nn.Module):
    """Two branches of 3³ convolution, attention, 3³ convolution; their sum through a 1³ convolution.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        channels: C.
        norm_op: behind the 3³ convolutions, which have no bias; batch normalisation as in the paper if None.

    Shape: `(B, C, *spatial)` → the same.
    """

    def __init__(self, conv_op: type[nn.Module], channels: int, norm_op: type[nn.Module] | None = None) -> None:
        super().__init__()
        norm_op = norm_op or batch_norm_of(conv_op)

        def conv() -> nn.Sequential:
            layer = conv_op(channels, channels, kernel_size=3, padding=1, bias=False)
            return nn.Sequential(layer, norm_op(channels, affine=True), nn.ReLU())

        self.position = nn.Sequential(conv(), PositionAttention(conv_op, channels), conv())
        self.channel = nn.Sequential(conv(), ChannelAttention(), conv())
        self.out = conv_op(channels, channels, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend over positions and over channels; see the class."""
        return self.out(self.position(x) + self.channel(x))

    def compute_conv_feature_map_size(self, size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions, nnU-Net's measure of memory."""
        channels = self.out.out_channels
        attention = self.position[1]
        return (6 * channels + 2 * attention.query.out_channels) * torch.Size(size).numel()
