"""Cycle-resemblance attention (Ding et al., Few-shot Medical Image Segmentation with Cycle-resemblance …, 2023).

No code of it is public: this is a reading of what its summary says, that attention blocks in a row recapture the
relations between all pixels of support and query by cycles between them.
"""

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.pairs import of_pairs
from nnunet_xmodal.numerics import full_precision


class CycleAttention(nn.Module):
    """What one image takes from another, from positions that a walk there and back returns to.

        P_ij = softmax_j(q_i·k_j/√C),   Q_ji = softmax_i(q_i·k_j/√C)
        r_j  = Σ_i Q_ji P_ij,           the chance that a walk from j to the other image and back ends in j
        x_i ← x_i + W Σ_j (P_ij r_j / Σ_j P_ij r_j) v_j

    q is a 1×1 convolution of the image that takes, k and v are such of the other one. W begins at 0, where nothing is
    taken. All of it runs in float32 with
    autocast off.

    Args:
        channels: C.

    Shape: `(B, C, N)` of the image that takes and `(B, C, M)` of the other one → `(B, C, N)`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv1d(channels, channels, kernel_size=1)
        self.key_value = nn.Conv1d(channels, 2 * channels, kernel_size=1)
        self.out = nn.Conv1d(channels, channels, kernel_size=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Add to x what it takes from the other image; see the class."""
        key, value = self.key_value(other).chunk(2, 1)
        query = self.query(x)
        with full_precision(x):
            affinity = query.float().mT @ key.float() / x.shape[1] ** 0.5  # B N M
            # logarithms: the product of two softmaxes is 0 for whole rows where logits are far apart
            there = affinity.log_softmax(2)
            returns = (affinity.log_softmax(1) + there).logsumexp(1, keepdim=True)  # B 1 M
            taken = value.float() @ (there + returns).softmax(2).mT  # B C N
        return x + self.out(taken.to(x.dtype))


class CycleResemblance(nn.Module):
    """Blocks in a row, in each of which support and query take from each other by CycleAttention.

    With several shots every shot meets the query alone, and the query is the mean over existing shots.

    Args:
        channels: C.
        blocks: how many.

    Shape: support features `(B, S, C, h, w)`, query features `(B, C, h', w')` and support mask, which is not read →
    both maps. `exists`, `(B, S)` bool, leaves shots out of the mean. With `pair`, `(N,)`, results are about the support
    and query of this number, whose attention is computed once for all that are about them: no mask has a part in it.
    """

    def __init__(self, channels: int, blocks: int = 2) -> None:
        super().__init__()
        self.of_support = nn.ModuleList(CycleAttention(channels) for _ in range(blocks))
        self.of_query = nn.ModuleList(CycleAttention(channels) for _ in range(blocks))

    def forward(
        self,
        support: torch.Tensor,
        query: torch.Tensor,
        mask: torch.Tensor,
        exists: torch.Tensor | None = None,
        pair: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both maps with what they took; see the class."""
        shots = support.shape[1]
        ours = support.flatten(0, 1).flatten(2)  # B·S C hw
        theirs = query.flatten(2).repeat_interleave(shots, 0)  # B·S C h'w'
        for of_support, of_query in zip(self.of_support, self.of_query):
            ours, theirs = of_support(ours, theirs), of_query(theirs, ours)
        counted = torch.ones(support.shape[:2], device=query.device) if exists is None else exists.float()
        share = (counted / counted.sum(1, keepdim=True).clamp(min=1)).to(query.dtype)  # B S
        mean = torch.einsum("bs,bscn->bcn", share, theirs.unflatten(0, (-1, shots)))
        ours, mean = ours.unflatten(0, (-1, shots)).unflatten(3, support.shape[3:]), mean.unflatten(2, query.shape[2:])
        return of_pairs(ours, mean, pair)

    def compute_conv_feature_map_size(self, size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions for one support and query map; nnU-Net plans by it."""
        per_position = sum(layer.out_channels for layer in self.modules() if isinstance(layer, nn.Conv1d))
        return per_position * torch.Size(size).numel()
