"""Attention-Reg and Feature-Reg (Song et al., Cross-modal Attention for MRI and Ultrasound Volume …, 2021, Fig. 3)."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.input_check import check_grid

SMALLEST_GRID = (4, 8, 8)
"""Voxels along z, y, x: two positions along each axis are left for the attention, and something to correlate."""

_WIDTH = 32


class FeatureExtractor(nn.Sequential):
    """Two times convolution, batch norm, ReLU and max pooling (Fig. 3).

    Pooling has kernel 3 and padding 1, so that a side of n becomes ⌈n/2⌉; the second one leaves z as it is.

    Shape: `(B, 1, D, H, W)` → `(B, 32, ⌈D/2⌉, ⌈H/4⌉, ⌈W/4⌉)`.
    """

    def __init__(self) -> None:
        super().__init__()
        for level, (channels, stride) in enumerate(((1, (2, 2, 2)), (_WIDTH, (1, 2, 2))), start=1):
            self.add_module(f"conv{level}", nn.Conv3d(channels, _WIDTH, 3, padding=1, bias=False))
            self.add_module(f"norm{level}", nn.BatchNorm3d(_WIDTH))
            self.add_module(f"relu{level}", nn.ReLU(inplace=True))
            self.add_module(f"pool{level}", nn.MaxPool3d(3, stride, padding=1))


class AttentionReg(nn.Module):
    """The rigid transform that registers what is left between a fixed and a moving image on one grid.

    A feature extractor per image, of the same structure and with weights of its own; a cross-modal attention block per
    image, whose primary input are its own features; three convolutions that fuse both; three linear layers, the first
    of which reads one number per position, so that a network belongs to the grid that it was made for. All numbers are
    the paper's at 32×96×96: 1,248,777 parameters, and 1,244,393 without the blocks, which is Feature-Reg.

    On another grid only the first linear layer has another size, 128·⌈D/2⌉·⌈⌈H/2⌉/2⌉·⌈⌈W/2⌉/2⌉ + 128 parameters.

    Args:
        grid: D, H, W.
        attention: `channels` → block of `(primary, cross-modal)` features, `CrossModalAttention`; None for Feature-Reg.

    Shape: `(B, 2, *grid)`, fixed and moving image in [0, 1] → `(B, 6)`: translations in mm and rotations in degrees
    about the centre of the grid, see `geometry.rigid_transform`.

    Raises:
        XModalError: for a grid that is too small; in forward for another grid or number of channels, NaN or infinity.
    """

    input_channels = 2

    def __init__(self, grid: Sequence[int], attention: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        self.grid = [int(side) for side in grid]
        _check_grid(self.grid)
        self.fixed_features = FeatureExtractor()
        self.moving_features = FeatureExtractor()
        self.fixed_attention = attention and attention(_WIDTH)
        self.moving_attention = attention and attention(_WIDTH)
        self.fusion = nn.Sequential(
            nn.BatchNorm3d(2 * _WIDTH),
            nn.Conv3d(2 * _WIDTH, 16, 1),
            nn.ReLU(inplace=True),
            nn.Conv3d(16, 4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv3d(4, 1, 3, padding=1),
            nn.BatchNorm3d(1),
            nn.Flatten(),
            nn.ReLU(inplace=True),
        )
        self.regressor = nn.Sequential(
            nn.Linear(torch.Size(self.feature_size).numel(), 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, 32),
            nn.ReLU(inplace=True),
            nn.Linear(32, 6),
        )
        # the features' layout follows the weights'; pooling and attention read it without a copy
        self.apply(initialised_as_published)
        self.to(memory_format=torch.channels_last_3d)

    @property
    def feature_size(self) -> list[int]:
        """Return the numbers of positions along z, y, x behind the feature extractors; 16×24×24 at the paper's grid."""
        half = [-(-side // 2) for side in self.grid]
        return [half[0], -(-half[1] // 2), -(-half[2] // 2)]

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features of the fixed and the moving image, before the attention: `(B, 2, *grid)` → two `(B, 32,
        *feature_size)`.
        """
        return self.fixed_features(x[:, :1]), self.moving_features(x[:, 1:])

    def forward(self, x: torch.Tensor, spacing: torch.Tensor | None = None) -> torch.Tensor:
        """Return the six numbers of the transform, `(B, 6)`; see the class. It learns the spacing and needs none."""
        check_grid(x, self.input_channels, self.grid, self.training)
        fixed, moving = self.features(x)  # B 32 d h w
        if self.fixed_attention is not None and self.moving_attention is not None:
            fixed, moving = self.fixed_attention(fixed, moving), self.moving_attention(moving, fixed)
        # one ReLU behind the concatenation keeps one tensor for the backward pass, where one per block keeps two
        both = F.relu(torch.cat((fixed, moving), 1), inplace=True)  # B 64 d h w
        return self.regressor(self.fusion(both))  # B 6

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one sample."""
        whole, positions = torch.Size(input_size).numel(), torch.Size(self.feature_size).numel()
        half = torch.Size([-(-side // 2) for side in input_size]).numel()
        blocks = (self.fixed_attention, self.moving_attention)
        attention = sum(block.compute_conv_feature_map_size(self.feature_size) for block in blocks if block is not None)
        return 2 * _WIDTH * (whole + half) + attention + (16 + 4 + 1) * positions


def initialised_as_published(module: nn.Module) -> None:
    """Draw a convolution's weights from He et al.'s normal distribution over its outputs, as in the published code."""
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _check_grid(grid: Sequence[int]) -> None:
    if len(grid) != 3 or any(side < smallest for side, smallest in zip(grid, SMALLEST_GRID)):
        raise XModalError(
            f"a registration grid has three sides of at least {'×'.join(map(str, SMALLEST_GRID))} voxels (z, y, x) and "
            f"this one is {'×'.join(map(str, grid))}: plan with a larger --grid."
        )
