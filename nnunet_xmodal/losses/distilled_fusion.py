"""Loss of a master modality that supervises its assistants (Li et al., 2019)."""

import torch
from torch import nn

from nnunet_xmodal.losses.levels import Levels
from nnunet_xmodal.losses.soft_agreement import divergence


class DistilledFusionLoss(nn.Module):
    """L = L_Seg(fused) + w·L_Seg(master) + γ·mean over assistants and levels of KL(master ‖ assistant).

    The master learns from the labels; what is selected of its assistants learns to say what the master says.

    Args:
        segmentation_loss: any loss of nnU-Net, with or without deep supervision.
        master_weight: w.
        distillation: γ.
        regions: see `divergence`.

    Shape: `(logits, [of the master, of each assistant])` or logits, all as the segmentation loss takes them, and its
    target → scalar.
    """

    def __init__(
        self, segmentation_loss: nn.Module, master_weight: float = 0.5, distillation: float = 0.5, regions: bool = False
    ) -> None:
        super().__init__()
        self.segmentation_loss = segmentation_loss
        self.master_weight, self.distillation, self.regions = master_weight, distillation, regions

    def forward(self, output: Levels | tuple, target: Levels) -> torch.Tensor:
        """Return the loss; see the class."""
        if not isinstance(output, tuple):
            return self.segmentation_loss(output, target)
        logits, (master, *assistants) = output
        loss = self.segmentation_loss(logits, target) + self.master_weight * self.segmentation_loss(master, target)
        pairs = [pair for assistant in assistants for pair in zip(_listed(master), _listed(assistant), strict=True)]
        apart = sum(divergence(teacher, student, self.regions) for teacher, student in pairs) / len(pairs)
        return loss + self.distillation * apart


def _listed(logits: Levels) -> list[torch.Tensor]:
    return logits if isinstance(logits, list) else [logits]
