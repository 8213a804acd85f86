"""Loss of samples that a network saw twice: with all their streams and with some of them."""

from typing import TypeAlias

import torch
from torch import nn

from nnunet_xmodal.losses.soft_agreement import divergence

Logits: TypeAlias = torch.Tensor | list[torch.Tensor]


class TwiceSeenLoss(nn.Module):
    """L = (1 − w)·L_Seg(complete) + w·L_Seg(some) + γ·KL(complete ‖ some).

    The KL divergence, batch and position mean at full resolution, teaches what is said with some streams to agree with
    what is said with all of them, which does not learn from it (distillation as of Hinton et al., 2015, at temperature
    1; for missing modalities as in Hu et al., 2020).

    Args:
        segmentation_loss: any loss of nnU-Net, with or without deep supervision.
        some_weight: w, from 0 to 1.
        distillation: γ.
        regions: whether the classes are regions, which may overlap: sigmoid instead of softmax, mean over regions.

    Shape: logits of `2·B` samples, the complete ones first, and targets of B, as the segmentation loss takes them, both
    in lists with deep supervision → scalar. Of B samples, outside of training, it is the segmentation loss.
    """

    def __init__(
        self,
        segmentation_loss: nn.Module,
        some_weight: float = 0.5,
        distillation: float = 0.0,
        regions: bool = False,
    ) -> None:
        super().__init__()
        self.segmentation_loss = segmentation_loss
        self.some_weight = some_weight
        self.distillation = distillation
        self.regions = regions

    def forward(self, output: Logits, target: Logits) -> torch.Tensor:
        """Return the loss; see the class."""
        samples = len(target[0] if isinstance(target, list) else target)
        if len(output[0] if isinstance(output, list) else output) == samples:
            return self.segmentation_loss(output, target)
        complete, some = (_samples(output, half) for half in (slice(None, samples), slice(samples, None)))
        loss = (1 - self.some_weight) * self.segmentation_loss(complete, target)
        loss = loss + self.some_weight * self.segmentation_loss(some, target)
        if not self.distillation:
            return loss
        teacher, student = (logits[0] if isinstance(logits, list) else logits for logits in (complete, some))
        return loss + self.distillation * divergence(teacher, student, self.regions)


def _samples(output: Logits, which: slice) -> Logits:
    return [level[which] for level in output] if isinstance(output, list) else output[which]
