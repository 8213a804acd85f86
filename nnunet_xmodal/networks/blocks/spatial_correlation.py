"""Spatial correlated feature fusion, SCFF (Zhang et al., Cross-Modal Self-Attention Distillation, 2020, Eq. 5–7)."""

from itertools import permutations

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.present_streams import other_where_absent, zero_where_absent
from nnunet_xmodal.numerics import full_precision

SOFTMAX_READINGS = ("dual", "row", "all")
CORRELATION_SCALES = ("channels", "sqrt")


def spatial_correlation(x: torch.Tensor, y: torch.Tensor, scale: str = "channels") -> torch.Tensor:
    """Return Z, z_ij = x_iᵀ·y_j / C̃ (Eq. 5, 6), or / √C̃ with the scale "sqrt": two `(B, C̃, N)` → `(B, N, N)`."""
    divisor = x.shape[1] if scale == "channels" else x.shape[1] ** 0.5
    return torch.einsum("bci,bcj->bij", x, y) / divisor


def project(values: torch.Tensor, correlation: torch.Tensor, reading: str) -> torch.Tensor:
    """Return F̂ ⊗ Z_G (Eq. 7): the values at positions i of one stream, seen from the positions j of the other.

    Args:
        values: `(B, C̃, N)`.
        correlation: Z as `(B, N, N)`, i over the values' positions.
        reading: what the paper's "spatial softmax" sums to one over: "dual" the values' positions i, so that every
            output is a weighted mean of values; "row" the other's positions j; "all" both at once.

    Shape: → `(B, C̃, N)`.
    """
    if reading == "dual":
        weights = correlation.softmax(1)
    elif reading == "row":
        weights = correlation.softmax(2)
    else:
        weights = correlation.flatten(1).softmax(1).view_as(correlation)
    return torch.einsum("bci,bij->bcj", values, weights)


class SpatialCorrelatedFeatureFusion(nn.Module):
    """Fuses the streams' features by what correlates between their positions.

    A 1×1 convolution shared by all streams takes the features to C̃ = C/2; for each ordered pair of streams the
    features of the first are projected by their correlation with the second; everything is concatenated, and taken
    to `out_channels` by a 1×1 convolution where the widths differ (for two streams 2·C̃ = C, nothing to do).

    Eq. 7 uses Z_G for one direction and its transpose for the other; with a row softmax used twice ("row") one of the
    two is no weighted mean, so "dual" takes a softmax per direction.

    Where a stream is absent, what others see is their correlation with themselves, so that a stream that is alone
    still passes, and what it would have shown them is 0.

    Products and softmax run in float32 with autocast off: unscaled logits leave float16.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        channels: C of each stream's features, at least 2.
        n_streams: at least 2.
        out_channels: width of the fused features, C if None.
        softmax: "dual" (default), "row" or "all".
        correlation_scale: "channels" divides Z by C̃, as printed, after which its softmax is nearly uniform; "sqrt" by
            √C̃, as the dot products of attention usually are.

    Shape: list of `n_streams` × `(B, C, *spatial)`, and bool `(B, n_streams)` or None where all are present
    → `(B, out_channels, *spatial)`; memory grows with N² positions.

    Raises:
        ValueError: for fewer than two streams or channels, an unknown reading of the softmax or scale.
    """

    def __init__(
        self,
        conv_op: type[nn.Module],
        channels: int,
        n_streams: int = 2,
        out_channels: int | None = None,
        softmax: str = "dual",
        correlation_scale: str = "channels",
    ) -> None:
        super().__init__()
        if n_streams < 2:
            raise ValueError(f"SCFF fuses at least two streams, got {n_streams}")
        if channels < 2:
            raise ValueError(f"SCFF halves the channels of its input and needs at least 2, got {channels}")
        if softmax not in SOFTMAX_READINGS:
            raise ValueError(f"softmax must be one of {', '.join(SOFTMAX_READINGS)}, got {softmax!r}")
        if correlation_scale not in CORRELATION_SCALES:
            scales = ", ".join(CORRELATION_SCALES)
            raise ValueError(f"correlation_scale must be one of {scales}, got {correlation_scale!r}")
        self.softmax = softmax
        self.correlation_scale = correlation_scale
        self.n_streams = n_streams
        self.out_channels = channels if out_channels is None else out_channels
        width = channels // 2
        self.general = conv_op(channels, width, kernel_size=1)
        pairs = n_streams * (n_streams - 1)
        fused_width = pairs * width
        same_width = fused_width == self.out_channels
        self.out = nn.Identity() if same_width else conv_op(fused_width, self.out_channels, kernel_size=1)

    def forward(self, stream_features: list[torch.Tensor], present: torch.Tensor | None = None) -> torch.Tensor:
        """Fuse the streams' features; see the class."""
        general = [self.general(features) for features in stream_features]  # S × B C̃ *spatial
        shape, dtype = general[0].shape, general[0].dtype
        with full_precision(general[0]):
            largest = torch.finfo(dtype).max  # sums over positions, in the reading "row", can leave float16
            exact = torch.promote_types(dtype, torch.float32)
            flat = [features.flatten(2).to(exact) for features in general]  # S × B C̃ N
            fused = [
                self._seen_from(flat, k, other, present).view(shape).clamp(-largest, largest).to(dtype)
                for k, other in permutations(range(len(flat)), 2)
            ]
        return self.out(torch.cat(fused, 1))  # B S(S-1)·C̃ *spatial → B C_out *spatial

    def _seen_from(self, flat: list[torch.Tensor], k: int, other: int, present: torch.Tensor | None) -> torch.Tensor:
        """Stream k seen from the other, `(B, C̃, N)`."""
        x, y = flat[k], flat[other]
        if present is None:
            return project(x, spatial_correlation(x, y, self.correlation_scale), self.softmax)
        y = other_where_absent(y, present[:, other], x)
        correlation = spatial_correlation(x, y, self.correlation_scale)
        return zero_where_absent(project(x, correlation, self.softmax), present[:, k])

    def support(self, stream_features: list[torch.Tensor]) -> torch.Tensor:
        """Return the share of the positions that a position of the fused features is a mean of, `(B,)`.

        exp(entropy) of the columns of Z_G over N, of the reading "dual" whatever the block's own, mean over columns and
        ordered pairs: 1 is the plain mean over the image, 1/N a single position.
        """
        flat = [self.general(features).flatten(2).float() for features in stream_features]
        supports = []
        for k, other in permutations(range(len(flat)), 2):
            log_weights = spatial_correlation(flat[k], flat[other], self.correlation_scale).log_softmax(1)
            entropy = -(log_weights.exp() * log_weights).sum(1)
            supports.append(entropy.exp().mean(1) / log_weights.shape[1])
        return torch.stack(supports).mean(0)

    def compute_conv_feature_map_size(self, size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions, nnU-Net's measure of memory."""
        positions = 1
        for side in size:
            positions *= side
        n = self.n_streams * self.general.out_channels * positions
        return n if isinstance(self.out, nn.Identity) else n + self.out_channels * positions
