"""Some channels of an image."""

from collections.abc import Sequence

import torch


def some_channels(x: torch.Tensor, channels: Sequence[int]) -> torch.Tensor:
    """Return the given channels of x `(B, C, …)`; a view where they lie side by side: nothing is copied, and a GPU is
    not waited for.
    """
    first, number = channels[0], len(channels)
    if list(channels) == list(range(first, first + number)):
        return x[:, first : first + number]
    return x[:, list(channels)]
