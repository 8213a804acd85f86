"""Any block of features as an attention of skips: it sees the coarsest of them."""

from collections.abc import Callable, Sequence

import torch
from torch import nn


class AtBottleneck(nn.Module):
    """
    Args:
        block: `(conv_op, channels)` → module that keeps the shape of its features.
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        widths: channels of the skips from fine to coarse, the bottleneck last.

    Shape: list of `(B, widths[level], *spatial_of_level)` → the same.
    """

    def __init__(
        self,
        block: Callable[[type[nn.Module], int], nn.Module],
        conv_op: type[nn.Module],
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        self.block = block(conv_op, widths[-1])

    def forward(self, skips: list[torch.Tensor]) -> list[torch.Tensor]:
        """Apply the block to the last skip; the others pass unchanged."""
        return [*skips[:-1], self.block(skips[-1])]

    def compute_conv_feature_map_size(self, sizes: Sequence[Sequence[int]]) -> int:
        """Count the numbers in the outputs of its convolutions for skips of these sizes, the bottleneck's last."""
        return self.block.compute_conv_feature_map_size(sizes[-1])
