"""How far several opinions on one transform lie apart, in millimetres of an organ."""

import torch

from nnunet_xmodal.geometry import rigid_transform

_ARM = 20.0
"""mm from the centre of the grid to the points that are compared, about an organ's radius."""


def disagreement(matrices: torch.Tensor) -> float:
    """Return the root mean square distance in mm of points to where the mean of all opinions puts them.

    The points are the six at 20 mm from the centre of the grid along its axes.

    Args:
        matrices: `(K, 4, 4)` in mm about the centre of one grid.
    """
    points = _ARM * torch.cat((torch.eye(3), -torch.eye(3))).to(matrices)
    moved = rigid_transform.apply(matrices, points)  # K 6 3
    return (moved - moved.mean(0)).square().sum(-1).mean().sqrt().item()
