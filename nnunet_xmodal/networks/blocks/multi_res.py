"""MultiRes blocks and Res paths (Ibtehaz and Rahman, MultiResUNet, 2020, Fig. 3 and 4)."""

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_xmodal.networks.plan_layers import PlanLayers

ALPHA = 1.67
"""α of Eq. 1, which makes a block about as large as two convolutions of U-Net."""

_SHARES = (0.167, 0.333, 0.5)


def multi_res_widths(width: int) -> list[int]:
    """Return the channels of a block's three convolutions, W/6, W/3 and W/2 of W = α·width, rounded down (Eq. 1)."""
    return [max(1, int(ALPHA * width * share)) for share in _SHARES]


class MultiResBlock(nn.Module):
    """Three convolutions in a row, whose outputs are concatenated, beside a 1×1 convolution.

        a = conv(x), b = conv(a), c = conv(b)
        y = norm(nonlin(norm([a b c]) + norm(conv₁(x))))

    With the first one alone it sees 3³, with two 5³, with three 7³.

    Args:
        layers: of the plan.
        channels: of x.
        width: of the plan's level.
        kernel: of the plan's level.

    Shape: `(B, channels, *spatial)` → `(B, Σ multi_res_widths(width), *spatial)`.
    """

    def __init__(self, layers: PlanLayers, channels: int, width: int, kernel: Sequence[int]) -> None:
        super().__init__()
        widths = multi_res_widths(width)
        self.output_channels = sum(widths)
        self.convolutions = nn.ModuleList(
            layers.convolution(read, put_out, kernel) for read, put_out in zip([channels, *widths], widths)
        )
        self.shortcut = layers.convolution(channels, self.output_channels, 1, active=False)
        self.norm_of_three = layers.norm(self.output_channels)
        self.norm = layers.norm(self.output_channels)
        self.nonlin = layers.nonlin()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y; see the class."""
        found = [x]
        for convolution in self.convolutions:
            found.append(convolution(found[-1]))
        three = self.norm_of_three(torch.cat(found[1:], 1))
        return self.norm(self.nonlin(three + self.shortcut(x)))


class ResPath(nn.Module):
    """Residual convolutions on a skip: y = norm(nonlin(conv(x) + norm(conv₁(x)))), several times.

    Args:
        layers: of the plan.
        channels: of the skip.
        width: of the plan's level.
        kernel: of the plan's level.
        length: how many.

    Shape: `(B, channels, *spatial)` → `(B, width, *spatial)`.
    """

    def __init__(self, layers: PlanLayers, channels: int, width: int, kernel: Sequence[int], length: int) -> None:
        super().__init__()
        reads = [channels, *[width] * (length - 1)]
        self.convolutions = nn.ModuleList(layers.convolution(read, width, kernel) for read in reads)
        self.shortcuts = nn.ModuleList(layers.convolution(read, width, 1, active=False) for read in reads)
        self.norms = nn.ModuleList(layers.norm(width) for _ in reads)
        self.nonlin = layers.nonlin()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y; see the class."""
        for convolution, shortcut, norm in zip(self.convolutions, self.shortcuts, self.norms):
            x = norm(self.nonlin(convolution(x) + shortcut(x)))
        return x
