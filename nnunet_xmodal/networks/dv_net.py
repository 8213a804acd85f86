"""DVNet (Sun et al., Towards robust CT-ultrasound registration using deep learning methods, 2018) for six numbers.

The published network finds displacements of 2D patches. Song et al. (2021) compare with one that takes a volume for 2D
images, without a word about its layers; this is a reading of that.
"""

from collections.abc import Sequence
from math import ceil

import torch
from torch import nn

from nnunet_xmodal.networks.attention_reg import initialised_as_published
from nnunet_xmodal.networks.input_check import check_grid

WIDTHS = (64, 128, 256, 512, 512)
LAST_WIDTH = 256


class DVNet(nn.Module):
    """A fully convolutional 2D network, whose input channels are the slices of both volumes.

    Five convolutions, which halve every side that has more than 3 positions, a 3×3 one of what they leave, averaged to
    3×3 positions, and a 1×1 one to six numbers; batch norm and ReLU behind all but the last.

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
        depth, *sides = self.grid
        layers: list[nn.Module] = []
        channels = 2 * depth
        for width in WIDTHS:
            stride = [2 if side > 3 else 1 for side in sides]
            sides = [ceil(side / step) for side, step in zip(sides, stride)]
            layers += _convolution(channels, width, stride, padding=1)
            channels = width
        self.layers = nn.Sequential(
            *layers,
            nn.AdaptiveAvgPool2d(3),
            *_convolution(channels, LAST_WIDTH, [1, 1], padding=0),
            nn.Conv2d(LAST_WIDTH, 6, kernel_size=1),
            nn.Flatten(),
        )
        self.apply(initialised_as_published)

    def forward(self, x: torch.Tensor, spacing: torch.Tensor | None = None) -> torch.Tensor:
        """Return the six numbers of the transform, `(B, 6)`; see the class. It learns the spacing and needs none."""
        check_grid(x, self.input_channels, self.grid, self.training)
        return self.layers(x.flatten(1, 2))  # B 2·D H W


def _convolution(channels: int, width: int, stride: Sequence[int], padding: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, 3, tuple(stride), padding, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
