"""Attention map generation block, AMGB (Zhang et al., Cross-Modal Self-Attention Distillation, 2020, Eq. 1 and 2)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from nnunet_xmodal.networks.blocks.upsampled_spatial_map import upsampled_spatial_map
from nnunet_xmodal.numerics import full_precision

NORMALISATIONS = ("sum", "mean", "std")
_NEXT_TO_NOTHING = 1e-6


def spatial_map(features: torch.Tensor) -> torch.Tensor:
    """Return R, the activation-based map S = Σ_t |F_t|², `(B, C, *spatial)` → `(B, *spatial)`."""
    return features.square().sum(1)


class AttentionMapGenerationBlock(nn.Module):
    """χ = G∘R∘P (Eq. 2): upsample the features, sum their squares over channels, softmax over all positions.

    Returns the *logarithm* of the attention map, because the distillation needs both and log_softmax is exact where
    the attention is next to nothing. It has no parameters.

    Args:
        normalisation: "sum" is Eq. 1; "mean" divides the sum by C; "std" divides it by its standard deviation over the
            positions of the sample, so that maps are neither one-hot nor flat whatever the width and scale of the
            features.

    Shape: `(B, C, *spatial)` → `(B, *size)`, one to three spatial dimensions; `size=None` keeps the features' own.
    """

    def __init__(self, normalisation: str = "sum") -> None:
        super().__init__()
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {normalisation!r}")
        self.normalisation = normalisation

    def forward(self, features: torch.Tensor, size: Sequence[int] | None = None) -> torch.Tensor:
        """Return the attention map of the features; see the class."""
        with full_precision(features):
            if features.dtype in (torch.float16, torch.bfloat16) and not torch.compiler.is_compiling():
                # recomputed in the backward pass, so that no copies in float32 are kept until then; compilers decide
                # that themselves
                activation = checkpoint(self._activation, features, size, use_reentrant=False, preserve_rng_state=False)
            else:
                activation = self._activation(features, size)
            return F.log_softmax(activation.flatten(1), dim=1).view_as(activation)  # G

    def _activation(self, features: torch.Tensor, size: Sequence[int] | None) -> torch.Tensor:
        """R∘P: `(B, C, *spatial)` → `(B, *size)`, in float32 at least: squares above 256 leave float16."""
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        if size is None or tuple(size) == tuple(features.shape[2:]):
            activation = spatial_map(features)
        else:
            activation = upsampled_spatial_map(features, size)
        if self.normalisation == "mean":
            return activation / features.shape[1]
        if self.normalisation == "std":  # an absent stream has 0 everywhere
            deviation = activation.flatten(1).std(1) + _NEXT_TO_NOTHING
            return activation / deviation.view(-1, *[1] * (activation.ndim - 1))
        return activation
