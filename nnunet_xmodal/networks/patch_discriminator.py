"""The discriminator of cross-modality feature transition (Zhang et al., Cross-Modality Deep Feature Learning, 2021)."""

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_instancenorm
from torch import nn

from nnunet_xmodal.errors import XModalError

_WIDTHS = (16, 32, 64, 128)
_SMALLEST = 4  # positions that halving leaves along a side: instance norm wants several, the last kernel has four


class PatchDiscriminator(nn.Module):
    """Table 1: convolutions of kernel 4 and stride 2, instance norm on all but the first, LeakyReLU, then a single map.

    The paper's patch of 128³ becomes 64, 32, 16, 8 and 7³ verdicts, each about another part of the patch. As
    CycleGAN has it, convolutions have a bias, instance norm learns nothing, LeakyReLU's slope is 0.2 and verdicts are
    linear: 697,585 parameters for one channel, 698,609 for two.

    Smaller and flatter patches: a level halves the sides that have at least 8 positions, so that 4 remain, and
    passes the others with kernel 3 and stride 1, which keeps them. Levels that would halve no side are left out, all
    but the first, so that there always is a hidden layer. The last kernel is 4 along sides of at least 4 positions
    and 3 along shorter ones, which it keeps. A slice of one voxel works like any other short side.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        in_channels: of one stream.
        patch_size: of the patches it will see.

    Shape: `(B, in_channels, *patch_size)` → verdicts `(B, 1, *fewer)`, trained towards 1 for real and 0 for generated.

    Raises:
        XModalError: for a patch of another number of dimensions than the convolution's, or with an empty side.
    """

    def __init__(self, conv_op: type[nn.Module], in_channels: int, patch_size: Sequence[int]) -> None:
        super().__init__()
        norm_op = get_matching_instancenorm(conv_op)
        _check_patch(conv_op, patch_size)
        layers: list[nn.Module] = []
        sides, channels = [int(side) for side in patch_size], in_channels
        for level, width in enumerate(_WIDTHS):
            halved = [side >= 2 * _SMALLEST for side in sides]
            if level > 0 and not any(halved):
                break
            kernel, stride = [4 if half else 3 for half in halved], [2 if half else 1 for half in halved]
            layers.append(conv_op(channels, width, kernel, stride, padding=1))
            if level > 0:
                layers.append(norm_op(width))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            sides, channels = [side // 2 if half else side for side, half in zip(sides, halved)], width
        kernel = [4 if side >= _SMALLEST else 3 for side in sides]
        layers.append(conv_op(channels, 1, kernel, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the map of verdicts; see the class."""
        return self.layers(x)


def _check_patch(conv_op: type[nn.Module], patch_size: Sequence[int]) -> None:
    dimensions = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[conv_op]
    if len(patch_size) != dimensions or min(patch_size) < 1:
        raise XModalError(
            f"a discriminator of {conv_op.__name__} needs a patch of {dimensions} sides, each of at least one voxel, "
            f"and got {list(patch_size)}."
        )
