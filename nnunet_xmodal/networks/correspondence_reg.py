"""Registration from correspondences: descriptors of both images, soft matches between them, a rigid fit to these.

Not of Song et al. (2021). Their network gathers features of one image by how they correlate with the other's and leaves
it to linear layers, which read one number per position, to find six numbers in them. Here the weights of that
attention gather *positions*: where each point of the fixed image is found in the moving one. The transform follows from
these points in closed form, so nothing has to be learnt about what a rotation is.
"""

from collections.abc import Sequence
from math import log, prod

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.rigid_fit import fit_rigid
from nnunet_xmodal.networks.input_check import check_grid
from nnunet_xmodal.numerics import full_precision

_WIDTH = 16
_MOST_POSITIONS = 16
"""Descriptors along an axis."""
_REACH = 0.3
"""Share of the grid's side by which matches are looked for to either side."""
_INNER = 0.7
"""Share of the grid's side in which points of the fixed image are matched: the organ and what is next to it."""


class DescriptorExtractor(nn.Module):
    """Descriptors on a lattice of at most 16 positions along each axis, of an image and of its surroundings.

    Convolutions halve the axes that have more positions; a coarser level, half as fine again, is laid under the result.

    Shape: `(B, 1, *grid)` → `(B, 16, *lattice)`, of length 1.
    """

    def __init__(self, grid: Sequence[int]) -> None:
        super().__init__()
        layers, channels = [_convolution(1, _WIDTH, (1, 1, 1))], _WIDTH
        for stride in _strides(grid):
            layers.append(_convolution(channels, channels, stride))
        self.fine = nn.Sequential(*layers)
        self.coarse = nn.Sequential(
            _convolution(_WIDTH, 2 * _WIDTH, (2, 2, 2)), _convolution(2 * _WIDTH, 2 * _WIDTH, (1, 1, 1))
        )
        self.descriptor = nn.Conv3d(3 * _WIDTH, _WIDTH, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Describe each position of a grid; see the class."""
        fine = self.fine(image)
        coarse = F.interpolate(self.coarse(fine), size=fine.shape[2:], mode="trilinear", align_corners=False)
        return F.normalize(self.descriptor(torch.cat((fine, coarse), 1)), dim=1)


class CorrespondenceReg(nn.Module):
    """The rigid transform that registers what is left between a fixed and a moving image on one grid.

    For points of the inner fixed image, descriptors f_i, and shifts d of the lattice, m_{i+d} of the moving image:

        c_id = mean over the neighbours of i of ⟨f_i, m_{i+d}⟩
        a_id = softmax over d of (α·c_id + β·Σ_i w_i c_id / Σ_i w_i − ‖d‖²/2σ²)

    The second term is what all points vote for together. Point x_i is found at y_i = x_i + Σ_d a_id d, with a
    confidence of w_i / (1 + variance of d under a / 1 cm²), w_i from its descriptor; T is the rigid fit of y_i to x_i,
    see `rigid_fit.fit_rigid`. α, β, σ and the fit's ridge are learnt.

    Args:
        grid: D, H, W.

    Shape: `(B, 2, *grid)`, fixed and moving image in [0, 1], and the spacing `(B, 3)` or `(3)` in mm along D, H, W →
    `(B, 6)`: translations in mm and rotations in degrees about the centre of the grid, see `geometry.rigid_transform`.

    Raises:
        XModalError: in forward for another grid or number of channels, NaN or infinity.
    """

    input_channels = 2
    at: torch.Tensor
    found_at: torch.Tensor
    mean_over_neighbours: torch.Tensor
    points: torch.Tensor
    shifts: torch.Tensor

    def __init__(self, grid: Sequence[int]) -> None:
        super().__init__()
        self.grid = [int(side) for side in grid]
        self.fixed_features = DescriptorExtractor(self.grid)
        self.moving_features = DescriptorExtractor(self.grid)
        self.confidence = nn.Conv1d(_WIDTH, 1, 1)
        self.log_alpha = nn.Parameter(torch.tensor(log(10.0)))
        self.log_beta = nn.Parameter(torch.tensor(log(10.0)))
        self.log_sigma = nn.Parameter(torch.tensor(log(25.0)))  # mm
        self.log_ridge = nn.Parameter(torch.full((2,), log(0.02)))
        self._lay_out()

    def _lay_out(self) -> None:
        """Note which positions are matched, where, and the steps between them in voxels."""
        lattice = self.lattice
        step = torch.tensor(_strides(self.grid) or [(1, 1, 1)]).prod(0)
        margins = [round(n * (1 - _INNER) / 2) for n in lattice]
        inner = [n - 2 * margin for n, margin in zip(lattice, margins)]
        every = [2 if n > _MOST_POSITIONS // 2 else 1 for n in inner]
        axes = [range(m, n - m, s) for m, n, s in zip(margins, lattice, every)]
        self.size = [len(axis) for axis in axes]
        at = torch.cartesian_prod(*[torch.tensor(axis) for axis in axes])  # N 3
        self.reach = [max(1, round(_REACH * n)) for n in lattice]
        shifts = torch.cartesian_prod(*[torch.arange(-r, r + 1) for r in self.reach])  # K 3
        padded = [n + 2 * r for n, r in zip(lattice, self.reach)]
        self.slabs = [slice(z, z + 2 * self.reach[0] + 1) for z in axes[0]]
        in_plane = at[: self.size[1] * self.size[2]] - torch.tensor([margins[0], 0, 0])  # P 3
        to = in_plane[:, None] + shifts + torch.tensor(self.reach)  # P K 3
        for name, value in (
            ("at", _flat(at, lattice)),
            ("found_at", _flat(to, padded)),
            ("mean_over_neighbours", _mean_over_neighbours(self.size)),
            ("points", at * step - (torch.tensor(self.grid) - 1) / 2),
            ("shifts", (shifts * step).float()),
        ):
            self.register_buffer(name, value, persistent=False)

    @property
    def lattice(self) -> list[int]:
        """Return the numbers of positions of descriptors along z, y, x."""
        sides = self.grid
        for stride in _strides(sides):
            sides = [-(-side // step) for side, step in zip(sides, stride)]
        return sides

    def forward(self, x: torch.Tensor, spacing: torch.Tensor | None = None) -> torch.Tensor:
        """Return the six numbers of the transform, `(B, 6)`; see the class. Without spacing voxels measure 1 mm."""
        check_grid(x, self.input_channels, self.grid, self.training)
        points, found, weights = self.matches(x, torch.ones(3).to(x) if spacing is None else spacing)
        ridge = self.log_ridge.exp().repeat_interleave(3)
        with full_precision(x):
            return rigid_transform.parameters(fit_rigid(found, points, weights, ridge.float()))

    def matches(self, x: torch.Tensor, spacing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return points of the fixed image, where the moving one has them, `(B, N, 3)` in mm, and weights `(B, N)`."""
        batch = len(x)
        fixed = self.fixed_features(x[:, :1]).flatten(2)[..., self.at]  # B E N
        around = [r for side in reversed(self.reach) for r in (side, side)]
        moving = F.pad(self.moving_features(x[:, 1:]), around)  # B E D H W
        confidence = self.confidence(4 * fixed).sigmoid().squeeze(1).float()  # B N
        with full_precision(x):
            similarity = self.mean_over_neighbours @ self.similarity(fixed.float(), moving.float())  # B N K
            votes = torch.einsum("bnk,bn->bk", similarity, confidence / confidence.sum(1, keepdim=True))
            spacing = spacing.float().expand(batch, 3)[:, None]
            points, shifts = ((place * spacing).flip(-1) for place in (self.points, self.shifts))  # B N 3, B K 3
            far = shifts.square().sum(-1)  # B K
            prior = self.log_beta.exp() * votes - far / (2 * self.log_sigma.exp() ** 2)
            attention = (self.log_alpha.exp() * similarity + prior[:, None]).softmax(-1)  # B N K
            shift = attention @ shifts
            variance = (attention @ far[..., None]).squeeze(-1) - shift.square().sum(-1)  # B N, mm²
            weights = 4 * confidence / (1 + variance / 100) / confidence.shape[1]
        return points, points + shift, weights

    def similarity(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        """Return ⟨f_i, m_{i+d}⟩ of points and shifts, `(B, E, N)` and `(B, E, D, H, W)` with its margin → `(B, N, K)`.

        Points of a plane along z meet the same few planes of the moving image: their products with all positions of
        these, from which those of the shifts are gathered, are less than half of those with the whole image.
        """
        planes = len(self.slabs)
        fixed = fixed.unflatten(2, (planes, -1)).permute(0, 2, 3, 1)  # B Z P E
        slabs = torch.stack([moving[:, :, slab].flatten(2) for slab in self.slabs], 1)  # B Z E M
        return (fixed @ slabs).gather(3, self.found_at.expand(len(fixed), planes, -1, -1)).flatten(1, 2)

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one sample, and those of the similarities."""
        sides, numbers = list(input_size), _WIDTH * prod(input_size)
        for stride in _strides(input_size):
            sides = [-(-side // step) for side, step in zip(sides, stride)]
            numbers += _WIDTH * prod(sides)
        coarse = 4 * _WIDTH * prod(-(-side // 2) for side in sides)
        return 2 * (numbers + coarse + _WIDTH * prod(sides)) + prod(self.size) * len(self.shifts)


def _convolution(channels: int, out: int, stride: Sequence[int]) -> nn.Sequential:
    convolution = nn.Conv3d(channels, out, 3, tuple(stride), padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm3d(out), nn.ReLU(inplace=True))


def _strides(grid: Sequence[int]) -> list[tuple[int, ...]]:
    """Strides along z, y, x, one after the other, until no axis has too many positions."""
    strides, sides = [], list(grid)
    while max(sides) > _MOST_POSITIONS:
        strides.append(tuple(2 if side > _MOST_POSITIONS else 1 for side in sides))
        sides = [-(-side // step) for side, step in zip(sides, strides[-1])]
    return strides


def _flat(index: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Index z, y, x `(…, 3)` as one number of a flattened array."""
    return (index[..., 0] * size[1] + index[..., 1]) * size[2] + index[..., 2]


def _mean_over_neighbours(size: Sequence[int]) -> torch.Tensor:
    """The matrix `(N, N)` whose product with values at N = prod(size) points is their means over 3×3×3 neighbours.

    Along axes of fewer than three points there is no mean.
    """
    place = torch.cartesian_prod(*[torch.arange(side) for side in size])
    reach = torch.tensor([int(side >= 3) for side in size])
    neighbours = ((place[:, None] - place).abs() <= reach).all(-1).float()
    return neighbours / neighbours.sum(1, keepdim=True)
