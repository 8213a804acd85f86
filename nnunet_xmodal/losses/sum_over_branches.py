"""CMFF's loss (Zhang et al., Cross-Modality Deep Feature Learning, 2021, Eq. 7)."""

import torch
from torch import nn

from nnunet_xmodal.losses.levels import Levels


class SumOverBranches(nn.Module):
    """L_seg(S_A) + L_seg(S_B) + L_seg(S_F) (Eq. 7); in eval mode the network returns S_F's logits only.

    With deep supervision the levels of a branch have nnU-Net's weights, whose sum is 1; S_F has one level, and that
    weighs 1 as well.

    Args:
        segmentation_loss: any loss of nnU-Net, with or without deep supervision.

    Shape: `(logits, (logits, …))` or logits, and the target as the segmentation loss takes it → scalar.
    """

    def __init__(self, segmentation_loss: nn.Module) -> None:
        super().__init__()
        self.segmentation_loss = segmentation_loss

    def forward(self, output: Levels | tuple, target: Levels) -> torch.Tensor:
        """Return the sum of the losses; see the class."""
        if not isinstance(output, tuple):
            return self._of_branch(output, target)
        first, others = output
        return sum(self._of_branch(logits, target) for logits in (first, *others))

    def _of_branch(self, logits: Levels, target: Levels) -> torch.Tensor:
        if isinstance(logits, list) and len(logits) == 1:
            return self.segmentation_loss.loss(logits[0], target[0])
        return self.segmentation_loss(logits, target)
