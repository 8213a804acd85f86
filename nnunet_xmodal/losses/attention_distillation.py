"""Attention distillation loss (Zhang et al., Cross-Modal Self-Attention Distillation, 2020, Eq. 3 and 4)."""

import torch
from torch import nn

from nnunet_xmodal.losses.levels import Levels

SCALES = ("positions", "pairs")


def symmetric_kl(log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    """Return KL(a‖b) + KL(b‖a) = Σ (a − b)·log(a/b) over all positions, per sample: two `(B, *spatial)` → `(B,)`."""
    return ((log_a.exp() - log_b.exp()) * (log_a - log_b)).flatten(1).sum(1)


class AttentionDistillationLoss(nn.Module):
    """L_CSAD: what half the symmetric KL of pairs of attention maps adds up to, batch mean.

    Args:
        scale: "positions", as printed, sums over pairs and divides each by its number of positions (1/(2WH) of Eq. 4),
            so that the same divergence weighs less in larger maps; "pairs" is the mean over pairs.

    Shape: list of pairs of log-maps `(B, *spatial)`, as `DistillationPaths` returns them → scalar.

    Raises:
        ValueError: for another scale.
    """

    def __init__(self, scale: str = "positions") -> None:
        super().__init__()
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
        self.scale = scale

    def forward(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Return the divergence of the pairs; see the class."""
        with torch.autocast(pairs[0][0].device.type, enabled=False):
            if self.scale == "pairs":
                return sum(symmetric_kl(log_a, log_b).mean() / 2 for log_a, log_b in pairs) / len(pairs)
            return sum(symmetric_kl(log_a, log_b).mean() / (2 * log_a[0].numel()) for log_a, log_b in pairs)


class DistilledSegmentationLoss(nn.Module):
    """L_total = L_Seg + α·L_CSAD (Eq. 8); in eval mode the network returns logits only, and so only L_Seg counts.

    Args:
        segmentation_loss: any loss of nnU-Net, with or without deep supervision.
        alpha: α.
        scale: see AttentionDistillationLoss.

    Attributes:
        share: of α that is in force, 1 until somebody sets it; with 0, L_CSAD is not computed.
    """

    def __init__(self, segmentation_loss: nn.Module, alpha: float, scale: str = "positions") -> None:
        super().__init__()
        self.segmentation_loss = segmentation_loss
        self.distillation_loss = AttentionDistillationLoss(scale)
        self.alpha = alpha
        self.share = 1.0

    def forward(self, output: Levels | tuple, target: Levels) -> torch.Tensor:
        """Return the loss; see the class."""
        if not isinstance(output, tuple):
            return self.segmentation_loss(output, target)
        logits, pairs = output
        loss = self.segmentation_loss(logits, target)
        return loss + self.share * self.alpha * self.distillation_loss(pairs) if self.share else loss
