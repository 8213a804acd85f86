"""Dice plus weighted binary cross-entropy (Zhang et al., Cross-Modal Self-Attention Distillation, 2020, Eq. 9–11)."""

import torch
from torch import nn
from torch.nn import functional as F


class DiceAndWeightedBCE(nn.Module):
    """L_Seg = L_Dice + β·L_WBCE over sigmoid outputs, the mean over labels or regions and samples.

    - L_Dice = 1 − (2·|X∩Y| + σ) / (|X| + |Y| + σ) (Eq. 10), per sample and label, with soft |X|;
    - L_WBCE = mean over pixels of −λ·p·log p̂ − (1−λ)·(1−p)·log(1−p̂) (Eq. 11, 1/|X| read as 1/number of pixels).

    The paper has one label. Several labels: a sigmoid each. nnU-Net's prediction takes the argmax over all heads, so
    the background's head must learn too: it is the complement, with λ and 1−λ swapped, and stays out of the Dice.

    Args:
        beta, sigma, lam: β, σ, λ.
        regions: target is one-hot `(B, R, *spatial)` (plus one channel of ignored pixels) instead of labels
            `(B, 1, *spatial)`.
        ignore_label: label whose pixels count nowhere; with regions any value but None says that the last target
            channel marks them.

    Shape: logits `(B, heads, *spatial)`, target as above → scalar.
    """

    def __init__(
        self,
        beta: float = 0.1,
        sigma: float = 1.0,
        lam: float = 0.95,
        regions: bool = False,
        ignore_label: int | None = None,
    ) -> None:
        super().__init__()
        self.beta, self.sigma, self.lam = beta, sigma, lam
        self.regions = regions
        self.ignore_label = ignore_label

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss; see the class."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            truth, valid = self._one_hot(logits, target)  # B heads *spatial, B 1 *spatial
            return self._dice(logits, truth, valid) + self.beta * self._weighted_bce(logits, truth, valid)

    def _one_hot(self, logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.regions:
            if self.ignore_label is None:
                return target.to(logits.dtype), torch.ones_like(logits[:, :1])
            return target[:, :-1].to(logits.dtype), 1 - target[:, -1:].to(logits.dtype)
        target = target.long()
        valid = torch.ones_like(target) if self.ignore_label is None else (target != self.ignore_label).long()
        truth = torch.zeros_like(logits).scatter_(1, target * valid, 1)
        return truth, valid.to(logits.dtype)

    def _dice(self, logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        first = 0 if self.regions else 1
        predicted = torch.sigmoid(logits[:, first:]) * valid
        truth = truth[:, first:] * valid
        overlap = (predicted * truth).flatten(2).sum(2)  # B labels
        size = predicted.flatten(2).sum(2) + truth.flatten(2).sum(2)
        return (1 - (2 * overlap + self.sigma) / (size + self.sigma)).mean()

    def _weighted_bce(self, logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        lam = logits.new_full((logits.shape[1],), self.lam)
        if not self.regions:
            lam[0] = 1 - self.lam
        lam = lam.view(1, -1, *(1,) * (logits.ndim - 2))
        per_pixel = -lam * truth * F.logsigmoid(logits) - (1 - lam) * (1 - truth) * F.logsigmoid(-logits)
        pixels = valid.flatten(2).sum(2).clamp(min=1)  # B 1
        return ((per_pixel * valid).flatten(2).sum(2) / pixels).mean()
