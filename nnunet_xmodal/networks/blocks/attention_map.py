"""Attention map generation block, AMGB (Zhang et al., Cross-Modal Self-Attention Distillation, 2020, Eq. 1 and 2)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}
NORMALISATIONS = ("sum", "mean")


def spatial_map(features: torch.Tensor) -> torch.Tensor:
    """R: the activation-based map S = Σ_t |F_t|², `(B, C, *spatial)` → `(B, *spatial)`.

    In float32 at least: squares of activations above 256 leave float16.
    """
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    return features.square().sum(1)


class AttentionMapGenerationBlock(nn.Module):
    """χ = G∘R∘P (Eq. 2): upsample the features, sum their squares over channels, softmax over all positions.

    Returns the *logarithm* of the attention map, because the distillation needs both and log_softmax is exact where
    the attention is next to nothing. It has no parameters.

    Args:
        normalisation: "sum" is Eq. 1; "mean" divides the sum by C, which keeps wide layers from being one-hot.

    Shape: `(B, C, *spatial)` → `(B, *size)`, one to three spatial dimensions; `size=None` keeps the features' own.
    """

    def __init__(self, normalisation: str = "sum"):
        super().__init__()
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {normalisation!r}")
        self.normalisation = normalisation

    def forward(self, features: torch.Tensor, size: Sequence[int] | None = None) -> torch.Tensor:
        # the upsampled features are four or eight times the features; recomputing them in the backward pass is cheaper
        # than to keep them
        activation = checkpoint(self._activation, features, size, use_reentrant=False, preserve_rng_state=False)
        return F.log_softmax(activation.flatten(1), dim=1).view_as(activation)  # G

    def _activation(self, features: torch.Tensor, size: Sequence[int] | None) -> torch.Tensor:
        """R∘P: `(B, C, *spatial)` → `(B, *size)`."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, torch.float32))
            if size is not None and tuple(size) != tuple(features.shape[2:]):
                mode = _INTERPOLATION[features.ndim - 2]
                features = F.interpolate(features, tuple(size), mode=mode, align_corners=False)  # P
            activation = spatial_map(features)  # R: B *size
            return activation / features.shape[1] if self.normalisation == "mean" else activation
