"""Which attention maps are distilled into which: the connection schemes of CSAD (Sec. III-A2 and Table II)."""

from collections.abc import Iterable
from itertools import combinations

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.present_streams import other_where_absent

SCHEMES = ("ILC", "PLC")

LogMaps = tuple[torch.Tensor, torch.Tensor]


class DistillationPaths(nn.Module):
    """Features of all streams and levels → pairs of attention maps that should agree.

    - ILC, interlaced, the proposal: level m of one stream with level m+1 of the other, both ways (Eq. 3): 2·(N−1)
      pairs for two streams and N levels;
    - PLC: the same level of both streams: N pairs;
    - one stream (early fusion) has only itself: level m with level m+1, N−1 pairs;
    - more than two streams: the sum over unordered pairs of streams.

    NLC, no connection, is a network without this block. Each pair has the size of its shallower map. In samples that
    lack a stream the pairs with it are twice the same map: their divergence and its gradient are exactly 0.

    Args:
        scheme: "ILC" or "PLC".
        amgb: makes an attention map of features.
        stop_gradient: the deeper map of a pair is a target that does not learn, as in self attention distillation (Hou
            et al., 2019). Pairs of the same level (PLC) have no deeper map, and both learn.
        first_level: m of the finest level whose maps are distilled, 1 as the paper counts; coarser levels follow.

    Shape: `[stream][level]` of `(B, C, *spatial)`, and bool `(B, S)` or None where all streams are present → list of
    pairs of log-maps `(B, *spatial)`, the shallower first.

    Raises:
        ValueError: for an unknown scheme or a level below 1, and in the forward pass where no pair is left.
    """

    def __init__(
        self, scheme: str, amgb: AttentionMapGenerationBlock, stop_gradient: bool = False, first_level: int = 1
    ) -> None:
        super().__init__()
        if scheme not in SCHEMES:
            raise ValueError(f"connection scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
        if first_level < 1:
            raise ValueError(f"levels are counted from 1, got first_level {first_level}")
        self.scheme = scheme
        self.amgb = amgb
        self.stop_gradient = stop_gradient
        self.first_level = first_level

    def forward(self, stream_features: list[list[torch.Tensor]], present: torch.Tensor | None = None) -> list[LogMaps]:
        """Return the pairs of log-maps; see the class."""
        levels = len(stream_features[0])
        stream_features = [stream[self.first_level - 1 :] for stream in stream_features]
        pairs = self._pairs(stream_features, present)
        if not pairs:
            raise ValueError(f"{self.scheme} from level {self.first_level} leaves no pair of {levels} levels")
        return pairs

    def _pairs(self, stream_features: list[list[torch.Tensor]], present: torch.Tensor | None) -> list[LogMaps]:
        if self.scheme == "PLC" and len(stream_features) > 1:
            own = [[self.amgb(level) for level in stream] for stream in stream_features]
            return [
                pair
                for k, other in combinations(range(len(own)), 2)
                for pair in _of_present(zip(own[k], own[other]), k, other, present)
            ]
        shallow = [[self.amgb(level) for level in stream[:-1]] for stream in stream_features]
        deep = [
            [self._target(below, level.shape[2:]) for level, below in zip(stream[:-1], stream[1:])]
            for stream in stream_features
        ]
        if len(stream_features) == 1:
            return list(zip(shallow[0], deep[0]))
        return [
            pair
            for k, other in combinations(range(len(stream_features)), 2)
            for pair in _of_present((*zip(shallow[k], deep[other]), *zip(shallow[other], deep[k])), k, other, present)
        ]

    def _target(self, below: torch.Tensor, size: torch.Size) -> torch.Tensor:
        return self.amgb(below.detach() if self.stop_gradient else below, size)


def _of_present(pairs: Iterable[LogMaps], k: int, other: int, present: torch.Tensor | None) -> list[LogMaps]:
    """Pairs of two streams, twice the same map in the samples that lack one of them."""
    if present is None:
        return list(pairs)
    both = present[:, k] & present[:, other]
    return [(a, other_where_absent(b, both, a)) for a, b in pairs]
