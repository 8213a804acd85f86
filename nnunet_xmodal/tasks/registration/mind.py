"""Registration by the modality independent neighbourhood descriptor (Heinrich et al., MIND, 2012)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional as F

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.warp import warp
from nnunet_xmodal.tasks.registration.method import RegistrationMethod, Volume
from nnunet_xmodal.tasks.registration.resolution_levels import factors_of_levels

_NEIGHBOURS = tuple((axis, step) for axis in range(3) for step in (-1, 1))


def mind(image: torch.Tensor, sigma: float = 0.5) -> torch.Tensor:
    """Return how alike the patches around a voxel and around each of its six neighbours are.

        MIND(x, r) = exp(−D_p(x, x + r) / V(x)) / n        (Eq. 4)

    D_p is the squared difference of the patches, weighted by a Gaussian (Eq. 5, 6), V its mean over the six neighbours
    (Eq. 8) and n makes the largest of the six 1. V is kept between a thousandth and a thousand times its mean over the
    image, which leaves constant regions alike in all directions. Beyond the border the image is repeated.

    Args:
        image: `(B, 1, D, H, W)`, a floating type.
        sigma: of the Gaussian, in voxels.

    Returns:
        `(B, 6, D, H, W)` in (0, 1], differentiable.
    """
    padded = F.pad(image, (1,) * 6, mode="replicate")
    sides = image.shape[2:]
    neighbours = []
    for axis, step in _NEIGHBOURS:
        start = [1, 1, 1]
        start[axis] += step
        place = (..., *[slice(low, low + side) for low, side in zip(start, sides)])
        neighbours.append(padded[place])
    distance = _smoothed((torch.cat(neighbours, 1) - image).square(), sigma)  # B 6 D H W
    variance = distance.mean(1, keepdim=True)  # B 1 D H W
    typical = variance.mean((1, 2, 3, 4), keepdim=True).detach()
    smallest = torch.finfo(image.dtype).tiny ** 0.5  # where all of the image is constant
    variance = variance.clamp(0.001 * typical + smallest, 1000 * typical + smallest)
    return torch.exp((distance.amin(1, keepdim=True) - distance) / variance)


@dataclass(frozen=True)
class MIND(RegistrationMethod):
    """Registration by the mean squared difference of descriptors (Eq. 9), coarse to fine, over six rigid parameters.

    Descriptors are those of the moving image *after* resampling, computed anew at every step: they are no invariants of
    rotation. What the moving image does not cover is left out. Adam, with millimetres and degrees as they are: a degree
    moves an organ's surface by a quarter of a millimetre. The best of all steps of a level is kept.

    Attributes:
        sigma: of the descriptor's patches, in voxels of the level.
        levels: factors of coarsening.
        iterations: of each level.
        step: of Adam, in mm and degrees, at the coarsest level; finer ones take it times their factor.
    """

    sigma: float = 0.5
    levels: Sequence[int] = (4, 2, 1)
    iterations: Sequence[int] = (60, 30, 10)
    step: float = 1.0

    def find(self, fixed: Volume, moving: Volume, spacing: Sequence[float], base: torch.Tensor) -> torch.Tensor:
        """Return the matrix, found on the device of the images."""
        images = [torch.as_tensor(image).detach().float()[None, None] for image in (fixed, moving)]
        shape, device = images[0].shape[2:], images[0].device
        start, found = base.float().to(device), torch.zeros(1, 6, device=device)
        factors = factors_of_levels(shape, spacing, self.levels)
        for level, of_axes, iterations in zip(self.levels, factors, self.iterations):
            coarse = [Coarsened.of(image, spacing, of_axes) for image in images]
            step = self.step * level / max(self.levels)
            found = self._refined(coarse[0], coarse[1], start, found, step, iterations)
        return rigid_transform.matrix(found[0].double()).cpu() @ base

    def _refined(
        self,
        fixed: "Coarsened",
        moving: "Coarsened",
        base: torch.Tensor,
        begin: torch.Tensor,
        step: float,
        iterations: int,
    ) -> torch.Tensor:
        of_fixed = mind(fixed.image, self.sigma)
        parameters = begin.clone().requires_grad_()
        optimizer = torch.optim.Adam([parameters], lr=step)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations, eta_min=step / 10)
        best, best_loss = begin, float("inf")
        for _ in range(iterations):
            matrix = rigid_transform.matrix(parameters) @ base
            loss = _difference(of_fixed, fixed.spacing, moving, matrix, self.sigma)
            if loss.item() < best_loss:
                best, best_loss = parameters.detach().clone(), loss.item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return best


def mind_distance(fixed: Volume, moving: Volume, spacing: Sequence[float], matrix: torch.Tensor) -> float:
    """Return the mean squared difference of descriptors (Eq. 9) behind a transform, over what the moving image covers.

    Args:
        fixed, moving, spacing: as a `RegistrationMethod` takes them.
        matrix: moving → fixed, `(4, 4)`.
    """
    images = [torch.as_tensor(image).detach().float()[None, None] for image in (fixed, moving)]
    on_fixed, on_moving = (Coarsened.of(image, spacing, (1, 1, 1)) for image in images)
    place = matrix.float().to(on_fixed.image.device)
    return _difference(mind(on_fixed.image), on_fixed.spacing, on_moving, place, 0.5).item()


def _difference(
    of_fixed: torch.Tensor, spacing: torch.Tensor, moving: "Coarsened", matrix: torch.Tensor, sigma: float
) -> torch.Tensor:
    def onto_fixed(image: torch.Tensor, place: torch.Tensor, padding: str) -> torch.Tensor:
        size = of_fixed.shape[2:]
        return warp(image, place, moving.spacing, padding=padding, size=size, spacing_onto=spacing)

    warped = onto_fixed(moving.image, matrix, "border")
    covered = onto_fixed(torch.ones_like(moving.image), matrix.detach(), "zeros") > 0.99
    difference = (mind(warped, sigma) - of_fixed).square().mean(1, keepdim=True)  # 1 1 D H W
    return (difference * covered).sum() / covered.sum().clamp_min(1)


def _smoothed(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """By a Gaussian cut at three sigma, axis by axis, every channel for itself."""
    radius = max(1, int(3 * sigma))
    kernel = torch.exp(-torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype).square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    for axis in range(3):  # sums of shifted copies: a convolution of one channel is several times slower on a CPU
        pad = [0] * 6
        pad[4 - 2 * axis : 6 - 2 * axis] = (radius, radius)
        padded, side = F.pad(x, pad, mode="replicate"), x.shape[2 + axis]
        x = sum(weight * padded.narrow(2 + axis, shift, side) for shift, weight in enumerate(kernel))
    return x


class Coarsened(NamedTuple):
    """An image at a level.

    Attributes:
        image: `(1, 1, d, h, w)`.
        spacing: `(3)` in mm along them.
    """

    image: torch.Tensor
    spacing: torch.Tensor

    @classmethod
    def of(cls, image: torch.Tensor, spacing: Sequence[float], factors: Sequence[int]) -> "Coarsened":
        """Take means over so many voxels; the image's outer faces stay where they are, and so does its centre."""
        size = [side // factor for side, factor in zip(image.shape[2:], factors)]
        sides = zip(spacing, image.shape[2:], size)
        voxels = image.new_tensor([mm * whole / fewer for mm, whole, fewer in sides])
        return cls(F.adaptive_avg_pool3d(image, size), voxels)
