"""Dropout of whole streams, after the modality dropout of ModDrop (Neverova et al., 2016)."""

import torch
from torch import nn


class StreamDropout(nn.Module):
    """Draws per sample which of its streams are present, never none.

    In ModDrop every modality of a sample is dropped on its own with a given probability. Here the samples that would
    lose all streams are left out: each subset but the empty one is as likely as it was among those that are left. With
    0.5 all of them are equally likely, and of S streams one is present in (1 - p)/(1 - p^S) of the samples. What is
    left is not scaled up, as it is not at prediction.

    Without parameters, and without branches on what was drawn, so that nothing breaks a graph of torch.compile.

    Args:
        probability: p with which a stream is dropped, 0 ≤ p < 1.

    Shape: `(B, …)`, S, and the streams that the samples have, bool `(B, S)` or None for all → bool `(B, S)` on the
    device of the input, True for some of these; in eval mode what was given.

    Raises:
        ValueError: for another probability.
    """

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"a stream is dropped with a probability from 0 to below 1, got {probability!r}")
        self.probability = probability

    def forward(self, x: torch.Tensor, n_streams: int, given: torch.Tensor | None = None) -> torch.Tensor | None:
        """Draw which streams are present; see the class."""
        if not self.training:
            return given
        numbers, keep = torch.rand(len(x), n_streams, device=x.device), 1 - self.probability
        given = _all_unless(given, x, n_streams)
        # where all before it are dropped: given that it or one of the n - 1 behind it is present; for the last one 1
        chances = [keep / (1 - self.probability**n) for n in range(1, n_streams + 1)]
        some = torch.zeros_like(given[:, 0])
        present = []
        for stream in range(n_streams):
            n_left = given[:, stream:].sum(1)
            chance = torch.ones(len(x), device=x.device)
            for n, of_n in enumerate(chances, 1):
                chance = torch.where(n_left == n, of_n, chance)
            present.append(given[:, stream] & (numbers[:, stream] < torch.where(some, keep, chance)))
            some = some | present[-1]
        return torch.stack(present, 1)

    def extra_repr(self) -> str:
        """Name the probability where torch prints the module."""
        return f"probability={self.probability}"


class SomeStreams(nn.Module):
    """Draws per sample which of its streams are present, never none and, where it has several, never all; every such
    subset is equally likely.

    For trainings that see every sample with all its streams as well. Without parameters.

    Shape: `(B, …)`, S ≥ 2, and the streams that the samples have, bool `(B, S)` or None for all → bool `(B, S)` on the
    device of the input, True for some of these; in eval mode what was given.
    """

    def forward(self, x: torch.Tensor, n_streams: int, given: torch.Tensor | None = None) -> torch.Tensor | None:
        """Draw which streams are present; see the class."""
        if not self.training:
            return given
        given = _all_unless(given, x, n_streams)
        # the binary digits of 1 to 2^n - 2 are the subsets of n streams between the empty and the full one
        subsets = (2 ** given.sum(1, keepdim=True) - 2).clamp(min=1)
        subset = 1 + torch.randint(2**31, (len(x), 1), device=x.device) % subsets
        digit = (given.cumsum(1) - 1).clamp(min=0)  # of every stream among those that the sample has
        return given & ((subset >> digit) % 2 == 1)


def _all_unless(given: torch.Tensor | None, x: torch.Tensor, n_streams: int) -> torch.Tensor:
    return torch.ones(len(x), n_streams, dtype=torch.bool, device=x.device) if given is None else given
