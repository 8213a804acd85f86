"""Mask-guided attention block (Zhang et al., Cross-Modality Deep Feature Learning, 2021, Sec. 3.2 and Fig. 4)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.present_streams import zero_where_absent


def probabilities_of(logits: torch.Tensor, regions: bool) -> torch.Tensor:
    """Return a probability per output: softmax over labels, or a sigmoid each for regions, which overlap."""
    return torch.sigmoid(logits) if regions else F.softmax(logits, 1)


def foreground_probability(logits: torch.Tensor, regions: bool) -> torch.Tensor:
    """Return how likely a voxel belongs to any label: `(B, K, *spatial)` → `(B, 1, *spatial)` in [0, 1].

    The sum over all labels but the background, K - 1 of them; of regions, which usually lie one within the other, the
    most likely.
    """
    probabilities = probabilities_of(logits, regions)
    return probabilities.amax(1, keepdim=True) if regions else probabilities[:, 1:].sum(1, keepdim=True)


class MaskGuidedAttention(nn.Module):
    """F ⊙ (1 + M), M the mean of the masks that both branches predict; no parameters.

    The paper prints no equation. With 1 + M, features outside of the masks stay as they are: where both branches miss
    a lesion, the fusion branch can still find it.

    Args:
        identity: False for F ⊙ M.
        per_class: one mask per output, the background's included where outputs are labels, instead of the
            foreground's alone; the masked copies of F are concatenated.
        detach: the masks are constants, so that the loss of the fusion branch does not train the branches' heads.

    Shape: F `(B, C, *spatial)`, logits of the branches, each `(B, K, *spatial)`, and bool `(B, number of branches)` or
    None where all are present → `(B, C, *spatial)`, with `per_class` `(B, K·C, *spatial)`. The mean is that of the
    present branches.
    """

    def __init__(self, identity: bool = True, per_class: bool = False, detach: bool = False) -> None:
        super().__init__()
        self.identity = identity
        self.per_class = per_class
        self.detach = detach

    def out_channels(self, channels: int, num_classes: int) -> int:
        """Return how many channels come of so many."""
        return channels * num_classes if self.per_class else channels

    def forward(
        self,
        features: torch.Tensor,
        branch_logits: Sequence[torch.Tensor],
        regions: bool,
        present: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Weigh the features by the mask; see the class."""
        mask = self.mask(branch_logits, regions, present).to(features.dtype)  # B 1|K *spatial; float32 under autocast
        weight = 1 + mask if self.identity else mask
        if not self.per_class:
            return features * weight
        return (features.unsqueeze(1) * weight.unsqueeze(2)).flatten(1, 2)  # B K C *spatial → B K·C *spatial

    def mask(
        self, branch_logits: Sequence[torch.Tensor], regions: bool, present: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return M, `(B, 1, *spatial)`, with `per_class` `(B, K, *spatial)`."""
        of_logits = probabilities_of if self.per_class else foreground_probability
        masks = [of_logits(logits, regions) for logits in branch_logits]
        if present is None:
            mean = sum(masks) / len(masks)
        else:
            of_present = sum(zero_where_absent(mask, present[:, branch]) for branch, mask in enumerate(masks))
            mean = of_present / present.sum(1).view(-1, *[1] * (of_present.ndim - 1))
        return mean.detach() if self.detach else mean
