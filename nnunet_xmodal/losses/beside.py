"""A segmentation loss of what networks put out beside their logits in training: heads that prediction does without."""

import torch
from torch import nn

from nnunet_xmodal.losses.levels import Levels


class SupervisedBeside(nn.Module):
    """L = L_Seg(logits) + Σ_k L_Seg(beside_k); in eval mode the network returns logits only, and so only these count.

    Args:
        segmentation_loss: any loss of nnU-Net, with or without deep supervision.
        mean: divides the sum by its number of terms.

    Shape: `(logits, [logits of the full resolution, …])` or logits, and the target as the segmentation loss takes it →
    scalar.
    """

    def __init__(self, segmentation_loss: nn.Module, mean: bool = False) -> None:
        super().__init__()
        self.segmentation_loss = segmentation_loss
        self.mean = mean

    def forward(self, output: Levels | tuple, target: Levels) -> torch.Tensor:
        """Return the loss; see the class."""
        if not isinstance(output, tuple):
            return self.segmentation_loss(output, target)
        logits, beside = output
        total = self.segmentation_loss(logits, target)
        for others in beside:
            # with deep supervision nnU-Net's loss of one level is within
            total = total + (
                self.segmentation_loss.loss(others, target[0])
                if isinstance(target, list)
                else self.segmentation_loss(others, target)
            )
        return total / (1 + len(beside)) if self.mean else total
