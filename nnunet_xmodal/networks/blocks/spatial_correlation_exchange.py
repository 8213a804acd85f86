"""SCFF's correlation on several levels, beside the concatenation; this package's own, not the paper's."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.at_most import at_most
from nnunet_xmodal.networks.blocks.present_streams import zero_where_absent
from nnunet_xmodal.networks.blocks.spatial_correlation import project, spatial_correlation
from nnunet_xmodal.numerics import full_precision

_POOL = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class SpatialCorrelationExchange(nn.Module):
    """Adds to every stream, on the coarsest levels, what correlates with it in the others.

    As in SCFF a 1×1 convolution that the streams share takes features to C̃ = C/2, and every position becomes a mean of
    another stream's, weighted by the softmax of their correlation. Unlike there the result, taken back to C and
    averaged over the other streams, is added to the stream's own features, which are concatenated as without it: a
    flat softmax costs nothing. Where a level has more than `max_positions`, the other stream's are pooled to so many,
    so that the correlation has N·max_positions entries and not N².

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        widths: channels of a stream's features from fine to coarse.
        n_streams: S, at least 2.
        fusion_levels: how many levels, counted from the bottleneck.
        max_positions: of the stream that is looked at.
        correlation_scale: see SpatialCorrelatedFeatureFusion.

    Shape: `[stream][level]` of `(B, widths[level], *spatial)`, and bool `(B, S)` or None where all are present → the
    same.
    """

    def __init__(
        self,
        conv_op: type[nn.Module],
        widths: Sequence[int],
        n_streams: int,
        fusion_levels: int = 3,
        max_positions: int = 256,
        correlation_scale: str = "sqrt",
    ) -> None:
        super().__init__()
        self.first = max(0, len(widths) - fusion_levels)
        self.max_positions = max_positions
        self.correlation_scale = correlation_scale
        self.n_streams = n_streams
        self.general = nn.ModuleList(conv_op(width, width // 2, kernel_size=1) for width in widths[self.first :])
        self.back = nn.ModuleList(conv_op(width // 2, width, kernel_size=1) for width in widths[self.first :])

    def forward(
        self, stream_features: list[list[torch.Tensor]], present: torch.Tensor | None = None
    ) -> list[list[torch.Tensor]]:
        """Add to every stream what correlates with it in the others; see the class."""
        levels = [list(level) for level in zip(*stream_features)]
        for index, (general, back) in enumerate(zip(self.general, self.back), start=self.first):
            levels[index] = self._exchange(levels[index], general, back, present)
        return [list(stream) for stream in zip(*levels)]

    def _exchange(
        self, features: list[torch.Tensor], general: nn.Module, back: nn.Module, present: torch.Tensor | None
    ) -> list[torch.Tensor]:
        narrow = [general(stream) for stream in features]
        size = narrow[0].shape[2:]
        if torch.Size(size).numel() > self.max_positions:
            seen = [_POOL[len(size)](stream, at_most(size, self.max_positions)) for stream in narrow]
        else:
            seen = narrow
        exchanged = []
        for k, stream in enumerate(features):
            messages = [
                self._seen_from(seen[other], narrow[k], None if present is None else present[:, other])
                for other in range(len(features))
                if other != k
            ]
            message = back(sum(messages) / len(messages))
            # what an absent stream would be told is no feature of it
            exchanged.append(stream + (message if present is None else zero_where_absent(message, present[:, k])))
        return exchanged

    def _seen_from(self, other: torch.Tensor, mine: torch.Tensor, present: torch.Tensor | None) -> torch.Tensor:
        """Means of the other's positions, `(B, C̃, *spatial)`; 0 where it is absent."""
        with full_precision(mine):
            exact = torch.promote_types(mine.dtype, torch.float32)
            values, queries = other.flatten(2).to(exact), mine.flatten(2).to(exact)
            weights = spatial_correlation(values, queries, self.correlation_scale)
            seen = project(values, weights, "dual").view(mine.shape).to(mine.dtype)
        return seen if present is None else zero_where_absent(seen, present)

    def compute_conv_feature_map_size(self, sizes: Sequence[Sequence[int]]) -> int:
        """Count the numbers in the outputs of its convolutions for features of these sizes, from fine to coarse."""
        return sum(
            self.n_streams * (general.out_channels + back.out_channels) * torch.Size(size).numel()
            for general, back, size in zip(self.general, self.back, sizes[self.first :])
        )
