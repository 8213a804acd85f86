"""A network that is told which of its streams there are, where its caller hands it images alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nnunet_xmodal.numerics import unwrapped


def knows_absence(network: nn.Module) -> bool:
    """Return whether a network was trained without some of its streams, told of it or by zeros in their place."""
    return getattr(unwrapped(network), "knows_absence", False)


def is_told_streams(network: nn.Module) -> bool:
    """Return whether a network takes, beside its channels, which streams there are: one that zeros tell does not."""
    return getattr(unwrapped(network), "stream_dropout", None) is not None


class OfPresentStreams(nn.Module):
    """Reads the channels of the present streams alone, and takes the others for absent.

    Stands in a predictor in the place of the network, whose weights it loads under their own names.

    Args:
        network: `(x, present)` → output, with all channels.
        channels: of the network, the ones that there are, in their order in the input.
        n_channels: image channels of the network; what an input holds beyond `channels` are those of a cascade.
        present: per stream.

    Shape: `(B, len(channels) + …, *spatial)` → the network's output.
    """

    def __init__(self, network: nn.Module, channels: Sequence[int], n_channels: int, present: Sequence[bool]) -> None:
        super().__init__()
        self.network = network
        self.channels, self.n_channels = list(channels), n_channels
        self.register_buffer("present", torch.tensor([list(present)]), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return the network's output for the present streams."""
        of_cascade = x.shape[1] - len(self.channels)
        whole = x.new_zeros(len(x), self.n_channels + of_cascade, *x.shape[2:])
        whole[:, [*self.channels, *range(self.n_channels, whole.shape[1])]] = x
        return self.network(whole, self.present.expand(len(x), -1))

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load the weights of the network."""
        return unwrapped(self.network).load_state_dict(*args, **kwargs)


class OfSamplesStreams(nn.Module):
    """Tells the network which streams the samples of one batch have.

    Args:
        network: `(x, present)` → output.
        present: bool `(B, S)`.

    Shape: `(B, C, *spatial)` → the network's output.
    """

    def __init__(self, network: nn.Module, present: torch.Tensor) -> None:
        super().__init__()
        self.network, self.present = network, present

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor] | tuple:
        """Return the network's output for the streams of this batch."""
        return self.network(x, self.present)


class OfMarkedStreams(nn.Module):
    """Takes a stream for absent where one of its channels holds NaN, which `AbsenceMarked` puts into absent ones.

    Stands in a predictor in the place of the network. Patches may be padded with 0, so that a single NaN counts.

    Args:
        network: `(x, present)` → output.
        streams: per stream its channels.
        n_channels: image channels; what an input holds beyond are those of a cascade.

    Shape: `(B, C, *spatial)` → the network's output.
    """

    def __init__(self, network: nn.Module, streams: Sequence[Sequence[int]], n_channels: int) -> None:
        super().__init__()
        self.network = network
        self.streams, self.n_channels = [list(stream) for stream in streams], n_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return the network's output for the streams that are not marked as absent."""
        is_absent = x[:, : self.n_channels].flatten(2).isnan().any(2)  # B C
        present = torch.stack([~is_absent[:, stream].any(1) for stream in self.streams], 1)
        return self.network(x, present)
