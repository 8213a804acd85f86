"""Places where attention maps look, and how alike those of two streams are: a low divergence hides both."""

from math import prod

import torch
from torch.nn import functional as F

_POOL = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


def peaks_in_a_corner(log_map: torch.Tensor) -> torch.Tensor:
    """Return whether the largest value of a map lies at an end of every axis: `(B, *spatial)` → bool `(B,)`."""
    sides = log_map.shape[1:]
    places = torch.unravel_index(log_map.flatten(1).argmax(1), sides)
    at_ends = [(place == 0) | (place == side - 1) for place, side in zip(places, sides)]
    return torch.stack(at_ends).all(0)


def corners_by_chance(size: torch.Size) -> float:
    """Return the share of positions that are corners: how often random maps of this size peak in one."""
    return prod(min(2, side) for side in size) / prod(size)


def mass_in(log_map: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Return the attention inside a mask over that of a uniform map: 1 is indifferent, NaN where the mask is empty.

    Args:
        log_map: `(B, *spatial)`.
        foreground: bool or 0/1 `(B, *size)`, a grid as fine or finer; its share in each position counts.

    Returns:
        `(B,)`.
    """
    size = log_map.shape[1:]
    share = _POOL[len(size)](foreground[:, None].to(log_map.dtype), tuple(size))[:, 0]
    return (log_map.exp() * share).flatten(1).sum(1) / share.flatten(1).mean(1)


def correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return Pearson's r over positions, two `(B, *spatial)` → `(B,)`; NaN where one of them is constant."""
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


_MORE_CORNERS = 0.05  # how far the share of maps that peak in a corner may lie above that of random ones


def attention_is_alive(start: dict, end: dict) -> bool | None:
    """Return whether a training has taught its streams to look at the same places, and at the right ones.

    That is: paired maps correlate more than at the start, the median of the maps has more mass in the foreground than a
    uniform one, and hardly more maps peak in a corner than random ones do. A low divergence is none of these: flat maps
    and maps that all collapsed into one corner have it too.

    Args:
        start, end: as `distillation_report` returns them.

    Returns:
        None where the start is not known, or no sample had a foreground.
    """
    if (
        "correlation" not in start
        or end["foreground_mass"] is None
        or None in (start["correlation"], end["correlation"])
    ):
        return None
    mass = torch.tensor(end["foreground_mass"]).median().item()
    peaks = torch.tensor(end["peaks_in_a_corner"])
    excess = (peaks - torch.tensor(end["corners_by_chance"])).mean().item()
    return end["correlation"] > start["correlation"] and mass > 1 and excess <= _MORE_CORNERS
