"""The non-local block: self-attention on half the channels beside the identity (Wang et al., 2018, Fig. 2)."""

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.norms import batch_norm_of
from nnunet_xmodal.networks.blocks.self_attention import SelfAttention


class NonLocal(nn.Module):
    """Z = X + norm(W SA(X)); the norm's weight begins at 0, so that the block begins as the identity.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        channels: C; the attention runs on C/2.
        norm_op: behind W; batch normalisation as in the paper if None.
        dense: see SelfAttention.

    Shape: `(B, C, *spatial)` → the same.
    """

    def __init__(
        self,
        conv_op: type[nn.Module],
        channels: int,
        norm_op: type[nn.Module] | None = None,
        dense: bool = False,
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(conv_op, channels, max(1, channels // 2), dense)
        self.w = conv_op(max(1, channels // 2), channels, kernel_size=1)
        self.norm = (norm_op or batch_norm_of(conv_op))(channels, affine=True)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend over positions; see the class."""
        return x + self.norm(self.w(self.attention(x)))

    def compute_conv_feature_map_size(self, size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions, nnU-Net's measure of memory."""
        return self.attention.compute_conv_feature_map_size(size) + self.w.out_channels * torch.Size(size).numel()
