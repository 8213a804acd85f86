"""Which attention maps are distilled into which: the connection schemes of CSAD (Sec. III-A2 and Table II)."""

from itertools import combinations

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock

SCHEMES = ("ILC", "PLC")

LogMaps = tuple[torch.Tensor, torch.Tensor]


class DistillationPaths(nn.Module):
    """Features of all streams and levels → pairs of attention maps that should agree.

    - ILC, interlaced, the proposal: level m of one stream with level m+1 of the other, both ways (Eq. 3): 2·(N−1)
      pairs for two streams and N levels;
    - PLC: the same level of both streams: N pairs;
    - one stream (early fusion) has only itself: level m with level m+1, N−1 pairs;
    - more than two streams: the sum over unordered pairs of streams.

    NLC, no connection, is a network without this block. Each pair has the size of its shallower map.

    Args:
        scheme: "ILC" or "PLC".
        amgb: makes an attention map of features.

    Shape: `[stream][level]` of `(B, C, *spatial)` → list of pairs of log-maps `(B, *spatial)`.
    """

    def __init__(self, scheme: str, amgb: AttentionMapGenerationBlock):
        super().__init__()
        if scheme not in SCHEMES:
            raise ValueError(f"connection scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
        self.scheme = scheme
        self.amgb = amgb

    def forward(self, stream_features: list[list[torch.Tensor]]) -> list[LogMaps]:
        if self.scheme == "PLC" and len(stream_features) > 1:
            own = [[self.amgb(level) for level in stream] for stream in stream_features]
            return [pair for a, b in combinations(own, 2) for pair in zip(a, b)]
        shallow = [[self.amgb(level) for level in stream[:-1]] for stream in stream_features]
        deep = [
            [self.amgb(below, level.shape[2:]) for level, below in zip(stream[:-1], stream[1:])]
            for stream in stream_features
        ]
        if len(stream_features) == 1:
            return list(zip(shallow[0], deep[0]))
        return [
            pair
            for k, other in combinations(range(len(stream_features)), 2)
            for pair in (*zip(shallow[k], deep[other]), *zip(shallow[other], deep[k]))
        ]
