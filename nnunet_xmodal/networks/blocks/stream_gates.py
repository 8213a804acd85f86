"""Gates by what a stream is sure of, per position; this package's own, after squeeze-and-excitation (Hu, 2018)."""

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_xmodal.numerics import full_precision


class StreamGates(nn.Module):
    """Weighs the streams against each other at every position of every level, before they are concatenated.

    A 1×1 convolution of all streams' features gives one score per stream; the softmax over the present streams times
    their number multiplies their features. A learned gain of the scores begins at 0, where all gates are 1 and the
    network is plain concatenation.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        widths: channels of a stream's features from fine to coarse.
        n_streams: S.

    Shape: `[stream][level]` of `(B, widths[level], *spatial)`, and bool `(B, S)` or None where all are present → the
    same.
    """

    def __init__(self, conv_op: type[nn.Module], widths: Sequence[int], n_streams: int) -> None:
        super().__init__()
        self.scores = nn.ModuleList(conv_op(n_streams * width, n_streams, kernel_size=1) for width in widths)
        self.gain = nn.Parameter(torch.zeros(len(self.scores)))

    def forward(
        self, stream_features: list[list[torch.Tensor]], present: torch.Tensor | None = None
    ) -> list[list[torch.Tensor]]:
        """Weigh the streams against each other; see the class."""
        levels = []
        for score, gain, features in zip(self.scores, self.gain, zip(*stream_features)):
            gates = self._gates(gain * score(torch.cat(features, 1)), present)
            levels.append([stream * gates[:, k : k + 1].to(stream.dtype) for k, stream in enumerate(features)])
        return [list(stream) for stream in zip(*levels)]

    def _gates(self, scores: torch.Tensor, present: torch.Tensor | None) -> torch.Tensor:
        """`(B, S, *spatial)` → the same, positive, with a mean of 1 over the present streams."""
        with full_precision(scores):
            scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
            if present is None:
                return scores.softmax(1) * scores.shape[1]
            here = present.view(*present.shape, *[1] * (scores.ndim - 2))
            return scores.masked_fill(~here, -torch.inf).softmax(1) * here.sum(1, keepdim=True)

    def compute_conv_feature_map_size(self, sizes: Sequence[Sequence[int]]) -> int:
        """Count the numbers in the outputs of its convolutions for features of these sizes, from fine to coarse."""
        return sum(score.out_channels * torch.Size(size).numel() for score, size in zip(self.scores, sizes))
