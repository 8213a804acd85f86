"""A network that is given some of its streams."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nnunet_xmodal.numerics import unwrapped


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
