"""What absent streams must not tell: their channels and features become 0, whatever they held, NaN included."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

import torch


def zero_where_absent(x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Return `(B, …)` with 0 in the samples where bool `present` `(B,)` is False; their gradient is exactly 0."""
    return x.masked_fill(~_over(x, present), 0)


def other_where_absent(x: torch.Tensor, present: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return `(B, …)` with the samples of `other` where bool `present` `(B,)` is False."""
    return torch.where(_over(x, present), x, other)


def without_absent_channels(
    x: torch.Tensor, present: torch.Tensor, stream_channels: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Return an input whose channels are 0 where no present stream reads them.

    Args:
        x: `(B, C, *spatial)`.
        present: bool `(B, S)`.
        stream_channels: per stream the channels that it reads; those of a cascade are read by all.
    """
    readers = [
        [stream for stream, channels in enumerate(stream_channels) if channel in channels]
        for channel in range(x.shape[1])
    ]
    nobody = torch.zeros_like(present[:, 0])
    is_read = torch.stack([reduce(or_, (present[:, k] for k in streams), nobody) for streams in readers], 1)  # B C
    return x.masked_fill(~is_read.view(*is_read.shape, *[1] * (x.ndim - 2)), 0)


def _over(x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    return present.view(-1, *[1] * (x.ndim - 1))
