"""Dropout of whole streams, after the modality dropout of ModDrop (Neverova et al., 2016)."""

import torch
from torch import nn


class StreamDropout(nn.Module):
    """Draws per sample which streams are present, never none.

    In ModDrop every modality of a sample is dropped on its own with a given probability. Here the samples that would
    lose all streams are left out: each subset but the empty one is as likely as it was among those that are left. With
    0.5 all of them are equally likely, and a stream is present in (1 - p)/(1 - p^S) of the samples. What is left is
    not scaled up, as it is not at prediction.

    Without parameters, and without branches on what was drawn, so that nothing breaks a graph of torch.compile.

    Args:
        probability: p with which a stream is dropped, 0 ≤ p < 1.

    Shape: `(B, …)` and S → bool `(B, S)` on the device of the input; in eval mode None, which means all.

    Raises:
        ValueError: for another probability.
    """

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"a stream is dropped with a probability from 0 to below 1, got {probability!r}")
        self.probability = probability

    def forward(self, x: torch.Tensor, n_streams: int) -> torch.Tensor | None:
        """Draw which streams are present; see the class."""
        if not self.training:
            return None
        numbers, keep = torch.rand(len(x), n_streams, device=x.device), 1 - self.probability
        present, some = [], torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for stream in range(n_streams):
            # where all before it are dropped: given that it or one behind it is present; for the last one that is 1
            given = keep / (1 - self.probability ** (n_streams - stream))
            present.append(numbers[:, stream] < torch.where(some, keep, given))
            some = some | present[-1]
        return torch.stack(present, 1)

    def extra_repr(self) -> str:
        """Name the probability where torch prints the module."""
        return f"probability={self.probability}"


class SomeStreams(nn.Module):
    """Draws per sample which streams are present, never none and never all; every such subset is equally likely.

    For trainings that see every sample with all streams as well. Without parameters.

    Shape: `(B, …)` and S ≥ 2 → bool `(B, S)` on the device of the input; in eval mode None, which means all.
    """

    def forward(self, x: torch.Tensor, n_streams: int) -> torch.Tensor | None:
        """Draw which streams are present; see the class."""
        if not self.training:
            return None
        # the binary digits of 1 to 2^S - 2 are the subsets between the empty and the full one
        subset = torch.randint(1, 2**n_streams - 1, (len(x), 1), device=x.device)
        return (subset >> torch.arange(n_streams, device=x.device)) % 2 == 1
