"""MSReg's network (Guo et al., Deep adaptive registration of multi-modal prostate images, 2020).

Its authors have published it within another work (FreehandUSRecon); what is built there and never called, a third of
its parameters, is left out here.
"""

from collections.abc import Sequence
from math import ceil, prod

import torch
from torch import nn

from nnunet_xmodal.networks.attention_reg import initialised_as_published
from nnunet_xmodal.networks.input_check import check_grid

CARDINALITY = 16
PLANES = 64  # of the first seven blocks; the others have half of them
_LARGEST_KERNEL = 5


class ResNeXtBlock(nn.Module):
    """1×1, a grouped 3×3×3 and 1×1 convolution, beside the input (Xie et al., Aggregated Residual …, 2017).

    Args:
        channels: of the input.
        planes: the output has twice as many channels, the layers between half as many.
        stride: of the grouped convolution.

    Shape: `(B, channels, D, H, W)` → `(B, 2·planes, ⌈D/stride⌉, ⌈H/stride⌉, ⌈W/stride⌉)`.
    """

    def __init__(self, channels: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        middle, width = planes // 2, 2 * planes
        self.layers = nn.Sequential(
            nn.Conv3d(channels, middle, 1, bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, middle, 3, stride, padding=1, groups=CARDINALITY, bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, width, 1, bias=False),
            nn.BatchNorm3d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv3d(channels, width, 1, stride, bias=False), nn.BatchNorm3d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(layers(x) + shortcut(x))."""
        return torch.relu(self.layers(x) + self.shortcut(x))


class MSReg(nn.Module):
    """The rigid transform of two images that are channels of one volume, by a ResNeXt.

    Convolution, pooling, a convolution that halves y and x; from there one convolution, and eleven ResNeXt blocks, each
    to half that size; both side by side through two convolutions and three linear layers, the first of which reads one
    number per position, so that a network belongs to the grid that it was made for.

    Args:
        grid: D, H, W.

    Shape: `(B, 2, *grid)`, fixed and moving image in [0, 1] → `(B, 6)`, see AttentionReg.

    Raises:
        XModalError: in forward for another grid or number of channels, NaN or infinity.
    """

    input_channels = 2

    def __init__(self, grid: Sequence[int]) -> None:
        super().__init__()
        self.grid = [int(side) for side in grid]
        half = PLANES // 2
        self.stem = nn.Sequential(
            nn.Conv3d(2, half, 3, padding=1, bias=False),
            nn.BatchNorm3d(half),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(3, 1, padding=1),
            nn.Conv3d(half, PLANES, 3, (1, 2, 2), padding=1, bias=False),
        )
        self.short = nn.Conv3d(PLANES, PLANES, 3, 2, padding=1, bias=False)
        blocks = [ResNeXtBlock(PLANES, PLANES), *(ResNeXtBlock(2 * PLANES, PLANES) for _ in range(6))]
        blocks += [ResNeXtBlock(2 * PLANES, half, 2), *(ResNeXtBlock(PLANES, half) for _ in range(3))]
        self.long = nn.Sequential(*blocks)
        kernel = [min(_LARGEST_KERNEL, side) for side in self.feature_size]
        self.fusion = nn.Sequential(
            nn.BatchNorm3d(2 * PLANES),
            nn.Conv3d(2 * PLANES, 2 * PLANES, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv3d(2 * PLANES, 16, kernel),
            nn.Flatten(),
            nn.ReLU(inplace=True),
        )
        left = prod(side - size + 1 for side, size in zip(self.feature_size, kernel))
        self.regressor = nn.Sequential(
            nn.Linear(16 * left, 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, 32),
            nn.ReLU(inplace=True),
            nn.Linear(32, 6),
        )
        self.apply(initialised_as_published)
        self.to(memory_format=torch.channels_last_3d)  # four fifths of the time on CPUs: pooling takes a seventh

    @property
    def feature_size(self) -> list[int]:
        """Return the positions along z, y, x behind the blocks; 16×24×24 at 32×96×96."""
        return [ceil(side / stride) for side, stride in zip(self.grid, (2, 4, 4))]

    def forward(self, x: torch.Tensor, spacing: torch.Tensor | None = None) -> torch.Tensor:
        """Return the six numbers of the transform, `(B, 6)`; see the class. It learns the spacing and needs none."""
        check_grid(x, self.input_channels, self.grid, self.training)
        x = self.stem(x)
        return self.regressor(self.fusion(torch.cat((self.short(x), self.long(x)), 1)))
