"""The loss of an episode (Huang et al., Cross-Reference Transformer …, 2023, Eq. 6–8)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F


class EpisodeTerms(NamedTuple):
    """Scalars: `total` is for the step, the others are its parts without their weights, for the log."""

    total: torch.Tensor
    segmentation: torch.Tensor
    alignment: torch.Tensor


class EpisodeLoss(nn.Module):
    """L_seg + λ·L_reg (Eq. 8): cross-entropy of the query, and of the support as the query's prediction segments it.

    Both are weighted means: Σ w_y·(−log p_y) / Σ w_y over all pixels of all episodes. The paper prints them without
    weights and divides by the number of pixels. ALPNet's code has weights in the first and none in the second.

    Args:
        weights: w of background and foreground, for the queries.
        alignment: λ.
        alignment_weights: as `weights`, for the support images.

    Shape: scores of background and foreground `(N, 2, H, W)` of the queries and `(N·S, 2, H, W)` of the support images;
    their masks `(N, H, W)` and `(N, S, H, W)`, 0 and 1 → EpisodeTerms.
    """

    def __init__(
        self,
        weights: Sequence[float] = (0.05, 1.0),
        alignment: float = 1.0,
        alignment_weights: Sequence[float] = (1.0, 1.0),
    ) -> None:
        super().__init__()
        self.weights, self.alignment_weights = tuple(weights), tuple(alignment_weights)
        self.alignment = alignment

    def forward(
        self,
        scores: torch.Tensor,
        alignment_scores: torch.Tensor,
        query_mask: torch.Tensor,
        support_mask: torch.Tensor,
    ) -> EpisodeTerms:
        """Return the total and its two terms; see the class."""
        segmentation = self._cross_entropy(scores, query_mask, self.weights)
        alignment = self._cross_entropy(alignment_scores, support_mask.flatten(0, 1), self.alignment_weights)
        return EpisodeTerms(segmentation + self.alignment * alignment, segmentation, alignment)

    @staticmethod
    def _cross_entropy(scores: torch.Tensor, mask: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
        with torch.autocast(scores.device.type, enabled=False):
            scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
            return F.cross_entropy(scores, mask.long(), scores.new_tensor(weights))
