"""The generators of a pre-training side by side (Zhang et al., Cross-Modality Deep Feature Learning, 2021, Fig. 2)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.some_channels import some_channels
from nnunet_xmodal.networks.generator import Generator
from nnunet_xmodal.networks.stream_grouping import StreamGrouping, check_two_streams


class GeneratorPair(nn.Module):
    """G_B^A, which reads stream A, and G_A^B, which reads stream B; or two that reconstruct what they read.

    Parameters have the names of CMFFUNet's branches, `branches.A.` for the generator that reads A: "S_A and S_B took
    the same input modality data as the G_B^A and G_A^B" (Sec. 4.2). A state with a fusion branch is loaded without it.

    Args:
        streams: exactly two lists of channels, A's and B's, with every channel in one of them.
        makes: the channels that the generator of A puts out and those of B's; in transition B's and A's.
        architecture: `arch_kwargs` of PlainConvUNet or ResidualEncoderUNet plans, `UNetPlan.architecture`.

    Attributes:
        given: the streams that `forward` is given, "A", "B" or "AB".

    Shape: `(B, C, *spatial)` with all channels → the same, every channel as a generator makes it. With one stream
    given, its channels alone → those that its generator makes, in the order of `makes`.

    Raises:
        XModalError: for another number of streams than two.
    """

    def __init__(self, streams: Sequence[Sequence[int]], makes: Sequence[Sequence[int]], **architecture: Any) -> None:
        super().__init__()
        check_two_streams(streams)
        self.grouping = StreamGrouping(streams)  # the first of the modules, to be loaded before the others
        self.streams = dict(zip("AB", map(list, streams)))
        self.makes = dict(zip("AB", map(list, makes)))
        self.given = "AB"
        self.branches = nn.ModuleDict(
            {name: Generator(len(self.streams[name]), len(self.makes[name]), **architecture) for name in "AB"}
        )
        made = [channel for name in "AB" for channel in self.makes[name]]
        self._position = [made.index(channel) for channel in range(len(made))]
        self.register_load_state_dict_pre_hook(_without_fusion)

    @classmethod
    def of_transition(cls, streams: Sequence[Sequence[int]], **architecture: Any) -> "GeneratorPair":
        """Build two generators, each of which makes the other stream."""
        check_two_streams(streams)
        return cls(streams, makes=streams[::-1], **architecture)

    @classmethod
    def of_reconstruction(cls, streams: Sequence[Sequence[int]], **architecture: Any) -> "GeneratorPair":
        """Build two generators, each of which makes the stream that it reads."""
        return cls(streams, makes=streams, **architecture)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what both generators make; see the class."""
        if self.given != "AB":
            return self.branches[self.given](x)
        made = [self.branches[name](some_channels(x, self.streams[name])) for name in "AB"]
        return torch.cat(made, 1)[:, self._position]  # B C *spatial

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one sample; nnU-Net plans patch and batch by it."""
        return sum(branch.compute_conv_feature_map_size(input_size) for branch in self.branches.values())

    initialize = staticmethod(Generator.initialize)


class ThereAndBack(nn.Module):
    """A pair as one network: what it makes of an image, and what it makes of that.

    Shape: `(B, C, *spatial)` → `(B, 2C, *spatial)`, the translations of Eq. 1 and then the cycles of Eq. 4.
    """

    def __init__(self, pair: GeneratorPair) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the pair makes of the image, and what it makes of that."""
        there = self.pair(x)
        return torch.cat((there, self.pair(there)), 1)


def _without_fusion(module: nn.Module, state: dict, prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}fusion.")]:
        del state[key]
