"""The cross-reference block (Liu et al., CRNet: Cross-Reference Networks, 2020), CRTPNet's Fig. 2a."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.pairs import of_pairs


class ChannelGate(nn.Sequential):
    """The FC block: linear layer, ReLU, linear layer, sigmoid.

    Args:
        channels: C.
        reduction: the layer between has C/reduction units, one at least; 16 is squeeze-and-excitation's, CRTPNet's
            paper gives none.

    Shape: `(…, C)` → `(…, C)` in (0, 1).
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        hidden = max(1, channels // reduction)
        super().__init__(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Sigmoid())


class MutualGates(nn.Module, ABC):
    """The base of cross-references: gates rescale the channels of both maps, and a subclass says which gates."""

    def forward(
        self,
        support: torch.Tensor,
        query: torch.Tensor,
        mask: torch.Tensor,
        exists: torch.Tensor | None = None,
        pair: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both maps, rescaled; see the class."""
        gates = self.gates(support, query, mask, pair)
        return rescaled(*of_pairs(support, query, pair), gates, exists)

    @abstractmethod
    def gates(
        self, support: torch.Tensor, query: torch.Tensor, mask: torch.Tensor, pair: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the gates per shot, `(B, S, C)`, or with `pair` per shot of each pair, `(N, S, C)`."""


class CrossReference(MutualGates):
    """Both feature maps, rescaled by the channels that matter in both.

    Features are averaged over all positions, an FC block makes a gate of each image's, of weights of its own for
    support and query, and the product of the two gates rescales both maps. With several shots every support map has
    the product of its own gate, and the query the mean of the products.

    This is "Base" of the paper's ablation, and `with_mask=True` "Base + Support Mask".

    Args:
        channels, reduction: as ChannelGate.
        with_mask: the support features are multiplied by the mask before they are averaged.

    Shape: support features `(B, S, C, h, w)`, query features `(B, C, h', w')` and support mask `(B, S, h, w)` → the
    support and the query features, rescaled. `exists`, `(B, S)` bool, leaves shots out of the mean. With `pair`,
    `(N,)`, masks are `(N, S, h, w)`, each about the support and query of this number, and so are results.
    """

    def __init__(self, channels: int, reduction: int = 16, with_mask: bool = False) -> None:
        super().__init__()
        self.support_gate = ChannelGate(channels, reduction)
        self.query_gate = ChannelGate(channels, reduction)
        self.with_mask = with_mask

    def gates(
        self, support: torch.Tensor, query: torch.Tensor, mask: torch.Tensor, pair: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the product of both gates per shot, `(B, S, C)`."""
        support, query = of_pairs(support, query, pair)
        kept = masked(support, mask) if self.with_mask else support
        return self.support_gate(kept.mean((-2, -1))) * self.query_gate(query.mean((-2, -1)))[:, None]

    def compute_conv_feature_map_size(self, size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions, of which it has none."""
        return 0


def masked(support: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return support features `(B, S, C, h, w)`, multiplied by their mask `(B, S, h, w)`."""
    return support * mask[:, :, None].to(support.dtype)


def rescaled(
    support: torch.Tensor, query: torch.Tensor, gates: torch.Tensor, exists: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rescale support features by the gates `(B, S, C)` of their shot, query features by the mean of existing shots."""
    if exists is None:
        mean = gates.mean(1)
    else:
        mean = (gates * exists[..., None]).sum(1) / exists.sum(1, keepdim=True).clamp(min=1)
    return support * gates[..., None, None], query * mean[..., None, None]
