"""Self-attention between all positions (Wang et al., Non-local Neural Networks, 2018; Zhang et al., 2021, Eq. 3–4)."""

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.numerics import full_precision


class SelfAttention(nn.Module):
    """Z = softmax(θ(X) φ(X)ᵀ) g(X), not scaled; the rows are positions.

    By default through `scaled_dot_product_attention`, which never holds the N×N affinities in its fused kernels. They
    want a contiguous last dimension, hence the copies to `(N, E)`. Products and softmax run in float32 with autocast
    off: unscaled logits leave float16.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        channels: C.
        embedding: E, width of θ, φ and g; C if None.
        dense: spell the affinities out, `(B, N, N)`.

    Shape: `(B, C, *spatial)` → `(B, E, *spatial)`.
    """

    def __init__(
        self, conv_op: type[nn.Module], channels: int, embedding: int | None = None, dense: bool = False
    ) -> None:
        super().__init__()
        embedding = embedding or channels
        self.theta = conv_op(channels, embedding, kernel_size=1)
        self.phi = conv_op(channels, embedding, kernel_size=1)
        self.g = conv_op(channels, embedding, kernel_size=1)
        self.dense = dense

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend over positions; see the class."""
        theta, phi, g = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))  # B E N
        dtype = g.dtype
        with full_precision(x):
            exact = torch.promote_types(dtype, torch.float32)
            query, key, value = (t.to(exact).transpose(1, 2) for t in (theta, phi, g))  # B N E
            if self.dense:
                z = (query @ key.transpose(1, 2)).softmax(-1) @ value
            else:
                query, key, value = (t.contiguous().unsqueeze(1) for t in (query, key, value))  # B 1 N E
                z = F.scaled_dot_product_attention(query, key, value, scale=1.0).squeeze(1)
        return z.transpose(1, 2).to(dtype).reshape(x.shape[0], -1, *x.shape[2:])

    def compute_conv_feature_map_size(self, size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions, nnU-Net's measure of memory."""
        return 3 * self.g.out_channels * torch.Size(size).numel()
