"""What the physics of a field does not mind: patches of field and map reversed, scaled and mirrored at random."""

from collections.abc import Sequence

import numpy as np
import torch


def random_factors(
    volumes: torch.Tensor, target: int, strengths: tuple[float, float] | None, reversals: bool
) -> torch.Tensor:
    """Draw what field and map of every case are multiplied by.

    Args:
        volumes: `(B, C, *spatial)`: the field, other inputs up to `target`, from there on inversions and the target,
            and last the mask.
        target: the target's channel in the files, which is how many inputs they hold.
        strengths: range of the factor, drawn evenly in its logarithm; None for 1.
        reversals: whether its sign is drawn, too.

    Returns:
        `(B, C, 1, 1, 1)`: one by case for field, inversions and target, 1 for other inputs and the mask.
    """
    factor = torch.ones(len(volumes))
    if strengths is not None:
        low, high = np.log(strengths)
        factor = torch.exp(low + (high - low) * torch.rand(len(volumes)))
    if reversals:
        factor = torch.where(torch.rand(len(volumes)) < 0.5, -factor, factor)
    factors = factor.to(volumes).view(-1, 1).repeat(1, volumes.shape[1])
    factors[:, 1:target] = 1
    factors[:, -1] = 1
    return factors.view(*volumes.shape[:2], 1, 1, 1)


def randomly_mirrored(
    volumes: torch.Tensor, direction: torch.Tensor, axes: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return volumes `(B, C, D, H, W)` and the directions of the main field `(B, 3)`, mirrored along each of the axes
    with a chance of one half.
    """
    for axis in axes:
        chosen = (torch.rand(len(volumes)) < 0.5).to(volumes.device)
        volumes = torch.where(chosen.view(-1, 1, 1, 1, 1), volumes.flip(axis + 2), volumes)
        mirrored = direction.clone()
        mirrored[:, axis] *= -1
        direction = torch.where(chosen[:, None], mirrored, direction)
    return volumes, direction
