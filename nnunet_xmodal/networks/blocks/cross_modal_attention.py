"""The cross-modal attention block (Song et al., Cross-modal Attention for MRI and Ultrasound …, 2021, Eq. 1)."""

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.norms import batch_norm_of
from nnunet_xmodal.numerics import full_precision


class CrossModalAttention(nn.Module):
    """Features of the primary image, gathered by how they correlate with those of the other one, added to its own.

        y_i = Σ_j exp(θ(c_i)ᵀφ(p_j)) g(p_j) / Σ_j exp(θ(c_i)ᵀφ(p_j))        (Eq. 1)
        Z = P + norm(W Y)

    The softmax runs over the positions j of the primary P and is not scaled by 1/√E; c_i are features of the
    cross-modal input C. θ, φ, g and W are 1×1×1 convolutions with bias. The paper's Z is followed by no nonlinearity;
    where the network has one is its own affair.

    By default through `scaled_dot_product_attention(scale=1.0)`, which never holds the N×N weights in its fused
    kernels: 9,216 positions would take 324 MiB per block and sample. They want four dimensions and a contiguous last
    one. Products and softmax run in float32 with autocast off: unscaled logits leave float16.

    Args:
        channels: of both inputs; 32 in the paper, where the block has 2,192 parameters.
        embedding: E, width of θ, φ and g; half the channels if None.
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        dense: spell the weights out, `(B, N, N)`.

    Shape: primary and cross-modal input, both `(B, channels, *spatial)` → `(B, channels, *spatial)`.
    """

    def __init__(
        self,
        channels: int,
        embedding: int | None = None,
        conv_op: type[nn.Module] = nn.Conv3d,
        dense: bool = False,
    ) -> None:
        super().__init__()
        embedding = embedding or max(1, channels // 2)
        self.theta = conv_op(channels, embedding, kernel_size=1)
        self.phi = conv_op(channels, embedding, kernel_size=1)
        self.g = conv_op(channels, embedding, kernel_size=1)
        self.w = conv_op(embedding, channels, kernel_size=1)
        self.norm = batch_norm_of(conv_op)(channels)
        self.dense = dense

    def forward(self, primary: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
        """Attend from the cross-modal features to the primary ones; see the class."""
        return primary + self.norm(self.w(self.gathered(primary, cross)))

    def gathered(self, primary: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
        """Return Y of Eq. 1, `(B, E, *spatial)`."""
        queries, keys, values = self.theta(cross), self.phi(primary), self.g(primary)  # B E *spatial
        with full_precision(primary):
            if self.dense:
                y = _weights(queries, keys) @ _rows(values)  # B N E
            else:
                queries, keys, values = (_rows(x).contiguous().unsqueeze(1) for x in (queries, keys, values))  # B 1 N E
                y = F.scaled_dot_product_attention(queries, keys, values, scale=1.0).squeeze(1)  # B N E
        return y.mT.to(primary.dtype).reshape(len(primary), -1, *primary.shape[2:])  # B E *spatial

    def attention_map(self, primary: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
        """Return Eq. 1's weights, `(B, N, N)`: row i says where in the primary the cross-modal position i looks."""
        queries, keys = self.theta(cross), self.phi(primary)
        with full_precision(primary):
            return _weights(queries, keys)

    def compute_conv_feature_map_size(self, size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions, nnU-Net's measure of memory."""
        return (3 * self.g.out_channels + self.w.out_channels) * torch.Size(size).numel()


def _rows(x: torch.Tensor) -> torch.Tensor:
    """`(B, E, *spatial)` → `(B, N, E)`, in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).flatten(2).mT


def _weights(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    return (_rows(queries) @ _rows(keys).mT).softmax(-1)  # B N N
