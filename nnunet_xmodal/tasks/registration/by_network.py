"""A registration network as a method like any other, and methods one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import nn

from nnunet_xmodal.datasets.joint_min_max import joint_min_max, label_in_range_of
from nnunet_xmodal.geometry.warp import warp
from nnunet_xmodal.tasks.registration.method import RegistrationMethod, Volume
from nnunet_xmodal.tasks.registration.turning_point import matrix_about, turning_point


def network_input(
    fixed: torch.Tensor, moving: torch.Tensor, base: torch.Tensor, spacing: torch.Tensor, fixed_is_label: bool = False
) -> torch.Tensor:
    """Return what a registration network reads: the moving image resampled once, both images in [0, 1].

    Args:
        fixed: `(B, 1, D, H, W)`; a label of 0 and 1 if `fixed_is_label`, which then takes the moving image's range.
        moving: `(B, 1, D', H', W')` around the same centre: the grid, or the grid and its surroundings.
        base: where the moving image begins, `(B, 4, 4)`.
        spacing: `(B, 3)` or `(3)` in mm along D, H, W.

    Returns:
        `(B, 2, D, H, W)`.
    """
    moving = warp(moving, base, spacing, size=fixed.shape[2:])
    if fixed_is_label:
        fixed = label_in_range_of(fixed, moving)
    return joint_min_max(torch.cat((fixed, moving), 1))


@dataclass
class ByNetwork(RegistrationMethod):
    """A network as a method: its result is M(output)·base, see the package for the interface.

    Attributes:
        network: in eval mode; images and spacing → `(B, 6)` in mm and degrees.
        device: of the network.
        fixed_is_label: the network was trained on labels in the place of fixed images: hand it the label.
        batch_size: starts that `of_starts` puts into one forward pass.
        turns_about_corner: the network's six numbers turn about the grid's corner, see `turning_point`.
    """

    network: nn.Module
    device: torch.device
    fixed_is_label: bool = False
    batch_size: int = 8
    turns_about_corner: bool = False

    def find(self, fixed: Volume, moving: Volume, spacing: Sequence[float], base: torch.Tensor) -> torch.Tensor:
        """Return the matrix of the one start, from one forward pass."""
        (matrix,) = self.of_starts(fixed, moving, spacing, base[None])[0]
        return matrix

    def of_starts(
        self, fixed: Volume, moving: Volume, spacing: Sequence[float], bases: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Register two images from several starts at once; seconds are shares of their batch."""
        images = [torch.as_tensor(image).to(self.device, torch.float32)[None, None] for image in (fixed, moving)]
        millimetres = torch.as_tensor(spacing, dtype=torch.float32, device=self.device)
        point = turning_point(fixed.shape, torch.as_tensor(spacing, dtype=torch.float64), self.turns_about_corner)
        matrices, seconds = [], []
        for base in bases.split(self.batch_size):
            began = perf_counter()
            some = [image.expand(len(base), -1, -1, -1, -1) for image in images]
            base = base.cpu().double()
            with torch.no_grad():
                x = network_input(some[0], some[1], base.float().to(self.device), millimetres, self.fixed_is_label)
                output = self.network(x, millimetres).cpu().double()  # B 6, in float32 as at prediction
            matrices.append(matrix_about(output, point) @ base)
            seconds += [(perf_counter() - began) / len(base)] * len(base)
        return torch.cat(matrices), torch.tensor(seconds, dtype=torch.float64)


class InTurn(RegistrationMethod):
    """Methods in turn, each from where the one before ended: two stages, or a network and what refines it."""

    def __init__(self, *methods: RegistrationMethod) -> None:
        self.methods = methods
        self.fixed_is_label = methods[0].fixed_is_label

    def find(self, fixed: Volume, moving: Volume, spacing: Sequence[float], base: torch.Tensor) -> torch.Tensor:
        """Return the matrix of the last method."""
        for method in self.methods:
            base = method(fixed, moving, spacing, base).matrix
        return base
