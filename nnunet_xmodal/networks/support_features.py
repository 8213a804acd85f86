"""Features of a support, computed once and again when what they depend on has changed."""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

Features = tuple[torch.Tensor, torch.Tensor]
"""Of all support images `(L, K, S, D, h, w)`, and masks `(L, K, S, h, w)`."""


class SupportFeatures:
    """Features that are kept until a tensor that they depend on changes; copies and pickles keep nothing.

    Changes in place are noticed by the tensors' versions, but not under torch.compile, which cannot read them; whoever
    replaces a tensor calls `forget`.
    """

    def __init__(self) -> None:
        self.kept: Features | None = None
        self._version: int | None = None

    def get(self, depends_on: Sequence[torch.Tensor], compute: Callable[[], Features], keep: bool) -> Features:
        """Return what is kept, or else what `compute` returns, which is kept if `keep` is true."""
        version = None if torch.compiler.is_compiling() else version_of(depends_on)
        if self.kept is not None and version in (None, self._version):
            return self.kept
        features = compute()
        if keep:
            self.kept, self._version = features, version
        return features

    def keep(self, features: Features | None, depends_on: Sequence[torch.Tensor]) -> None:
        """Keep these features, or none, as those of the tensors as they are now."""
        self.kept, self._version = features, version_of(depends_on)

    def forget(self) -> None:
        """Keep nothing, so that the next call computes."""
        self.kept, self._version = None, None

    def __getstate__(self) -> dict:
        return {"kept": None, "_version": None}


def version_of(tensors: Sequence[torch.Tensor]) -> int:
    """Return a number that grows with every change in place; tensors of inference mode count no changes."""
    return sum(tensor._version for tensor in tensors if not tensor.is_inference())


def reduced_masks(mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Reduce masks to the resolution of features, without losing one that has a pixel at all.

    Shape: `(B, S, H, W)`, 0 and 1 → `(B, S, h, w)` in [0, 1].
    """
    mask = mask.to(torch.promote_types(mask.dtype, torch.float32))
    sampled = F.interpolate(mask, size=tuple(size), mode="bilinear", align_corners=False)
    averaged = F.adaptive_avg_pool2d(mask, tuple(size))
    vanished = sampled.sum((-2, -1), keepdim=True) == 0
    return torch.where(vanished, averaged, sampled)
