"""Rotation of volumes in the plane of their last two axes, with whatever direction they have a field in."""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F


def rotated(
    volumes: torch.Tensor,
    angle: torch.Tensor,
    spacing: torch.Tensor,
    size: Sequence[int],
    mode: str = "bilinear",
) -> torch.Tensor:
    """Cut out what lies around the centre of every volume, turned by an angle from the y axis towards the x axis.

    Args:
        volumes: `(B, C, D, H, W)`; a rotation reaches beyond `size`, where they have more.
        angle: `(B,)` in radians.
        spacing: `(B, 3)`, mm along z, y, x: angles are those of millimetres.
        size: D', H', W' of the result, at most those of the volumes and different by even numbers, so that with an
            angle of 0 it is the middle of them to the bit, but for the rounding of interpolation.
        mode: of interpolation, "bilinear" or "nearest"; 0 beyond the border.

    Returns:
        `(B, C, D', H', W')` float.
    """
    volumes = volumes.float()
    first = [(whole - side) // 2 for whole, side in zip(volumes.shape[2:], size)]
    volumes = volumes[:, :, first[0] : first[0] + size[0]]  # B C D' H W
    cos, sin = angle.cos(), angle.sin()
    mm_y, mm_x = spacing[:, 1], spacing[:, 2]
    height, width = volumes.shape[-2:]
    y = torch.arange(size[1], device=volumes.device) + first[1] - (height - 1) / 2  # voxels from the centre
    x = torch.arange(size[2], device=volumes.device) + first[2] - (width - 1) / 2
    y, x = y.view(1, -1, 1), x.view(1, 1, -1)
    cos, sin, ratio = cos.view(-1, 1, 1), sin.view(-1, 1, 1), (mm_x / mm_y).view(-1, 1, 1)
    from_y = cos * y + sin * x * ratio  # B H' W': where the turned point was
    from_x = cos * x - sin * y / ratio
    place = torch.stack((from_x * 2 / width, from_y * 2 / height), -1).to(volumes.dtype)  # B H' W' 2, -1 to 1
    batch, channels, depth = volumes.shape[:3]
    slices = volumes.reshape(batch, channels * depth, height, width)
    turned = F.grid_sample(slices, place, mode=mode, padding_mode="zeros", align_corners=False)
    return turned.view(batch, channels, depth, *size[1:])


def rotated_direction(direction: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Turn unit vectors `(B, 3)` along z, y, x as `rotated` turns volumes."""
    z, y, x = direction.unbind(1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((z, cos * y - sin * x, sin * y + cos * x), 1)


def size_before_rotation(size: Sequence[int], degrees: float, ratio: float = 1.0) -> list[int]:
    """Return D, H, W of volumes from which `rotated` cuts D', H', W' at any angle up to that, without a voxel beyond.

    Args:
        degrees: the largest angle, up to 45 either way.
        ratio: mm along y by mm along x, or the other way round, whichever is larger.
    """
    depth, height, width = size
    needed = [
        _largest_reach(*sides, math.radians(degrees)) for sides in ((height, width * ratio), (width, height * ratio))
    ]
    # even differences: the middle stays the middle
    grown = [side + 2 * max(0, -int(-(need - side) // 2)) for side, need in zip((height, width), needed)]
    return [depth, *grown]


def _largest_reach(along: float, across: float, largest: float) -> float:
    """The largest along·cos a + across·sin a for angles up to that: a long side reaches farthest at a smaller one."""
    angle = min(largest, math.atan2(across, along))
    return along * math.cos(angle) + across * math.sin(angle)
