"""Attention distillation loss (Zhang et al., Cross-Modal Self-Attention Distillation, 2020, Eq. 3 and 4)."""

import torch
from torch import nn


def symmetric_kl(log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    """KL(a‖b) + KL(b‖a) = Σ (a − b)·log(a/b) over all positions, per sample: two `(B, *spatial)` → `(B,)`."""
    return ((log_a.exp() - log_b.exp()) * (log_a - log_b)).flatten(1).sum(1)


class AttentionDistillationLoss(nn.Module):
    """L_CSAD: the sum over pairs of attention maps of L_AD = symmetric KL / (2·number of positions), batch mean.

    No stop-gradient: Eq. 4 is symmetric, both streams learn.

    Shape: list of pairs of log-maps `(B, *spatial)`, as `DistillationPaths` returns them → scalar.
    """

    def forward(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        with torch.autocast(pairs[0][0].device.type, enabled=False):
            return sum(symmetric_kl(log_a, log_b).mean() / (2 * log_a[0].numel()) for log_a, log_b in pairs)


class DistilledSegmentationLoss(nn.Module):
    """L_total = L_Seg + α·L_CSAD (Eq. 8); in eval mode the network returns logits only, and so only L_Seg counts.

    Args:
        segmentation_loss: any loss of nnU-Net, with or without deep supervision.
        alpha: α.
    """

    def __init__(self, segmentation_loss: nn.Module, alpha: float):
        super().__init__()
        self.segmentation_loss = segmentation_loss
        self.distillation_loss = AttentionDistillationLoss()
        self.alpha = alpha

    def forward(self, output, target) -> torch.Tensor:
        if not isinstance(output, tuple):
            return self.segmentation_loss(output, target)
        logits, pairs = output
        return self.segmentation_loss(logits, target) + self.alpha * self.distillation_loss(pairs)
