"""The cross-reference transformer (Huang et al., Cross-Reference Transformer …, 2023, Sec. 2.3, Eq. 1, Fig. 2b)."""

import torch
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.cross_reference import ChannelGate, MutualGates
from nnunet_xmodal.networks.blocks.pairs import of_pairs
from nnunet_xmodal.numerics import full_precision


class CrossReferenceTransformer(MutualGates):
    """Both feature maps, rescaled by the channels that matter in what each image finds in the other.

        Attention(q_s, k_q, v_q) = softmax(q_s·k_qᵀ/√d)·v_q        (Eq. 1)

    and Attention(q_q, k_s, v_s) likewise are averaged over their positions, an FC block makes a gate of each, and the
    product of the gates rescales the original maps of both images. q, k and v are 1×1 convolutions with bias. The paper
    draws support and query apart: nothing here is shared between them, nor between the two FC blocks.

    The text multiplies the mask with the support image, Fig. 2 with its features, as is done here: outside of the mask
    q_s, k_s and v_s are their biases. Eq. 1 runs in float32 with autocast off.

    With several shots every shot meets the query alone; the query is rescaled by the mean of their gates.

    Args:
        channels: C; 256 in the paper.
        num_heads: divides the channels; "multi-head" in the paper, without a number. d is the channels of a head.
        reduction: of the FC blocks, see ChannelGate.

    Shape: support features `(B, S, C, h, w)`, query features `(B, C, h', w')` and support mask `(B, S, h, w)` → the
    support and the query features, rescaled. `exists`, `(B, S)` bool, leaves shots out of the mean. With `pair`,
    `(N,)`, masks are `(N, S, h, w)`, each about the support and query of this number, and so are results.

    Raises:
        XModalError: for heads that do not divide the channels.
    """

    def __init__(self, channels: int, num_heads: int = 1, reduction: int = 16) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise XModalError(f"{num_heads} heads do not divide {channels} channels: take a divisor of {channels}.")
        self.num_heads = num_heads
        self.support_qkv = nn.Conv2d(channels, 3 * channels, kernel_size=1)
        self.query_qkv = nn.Conv2d(channels, 3 * channels, kernel_size=1)
        self.support_gate = ChannelGate(channels, reduction)
        self.query_gate = ChannelGate(channels, reduction)

    def gates(
        self, support: torch.Tensor, query: torch.Tensor, mask: torch.Tensor, pair: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the product of both gates per shot, `(B, S, C)`."""
        shots = support.shape[1]
        # before masks and pairs, so that every image passes once: W(y·f) + b = y·(Wf + b) + (1 − y)·b
        ours, theirs = self.support_qkv(support.flatten(0, 1)).unflatten(0, (-1, shots)), self.query_qkv(query)
        ours, theirs = of_pairs(ours, theirs, pair)
        q_s, k_s, v_s, times = self._within(ours.flatten(0, 1), mask.flatten(0, 1).flatten(1))  # B·S heads n d
        q_q, k_q, v_q = (x.repeat_interleave(shots, 0) for x in self._tokens(theirs.flatten(2)))  # B·S heads h'w' d
        with full_precision(query):
            of_query = _mean_attention(q_s, k_q, v_q, queries=times)
            of_support = _mean_attention(q_q, k_s, v_s, keys=times)
            of_query, of_support = (x.flatten(1).to(query.dtype) for x in (of_query, of_support))  # B·S C
        gates = self.support_gate(of_query) * self.query_gate(of_support)
        return gates.unflatten(0, (-1, shots))

    def compute_conv_feature_map_size(self, size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions for one support and query map; nnU-Net plans by it."""
        return 2 * self.query_qkv.out_channels * torch.Size(size).numel()

    def _within(self, qkv: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Keep the positions of the mask, and one for all others, which are alike: their biases.

        Args:
            qkv: of whole images, `(N, 3C, h, w)`.
            mask: `(N, hw)`.

        Returns:
            Three `(N, heads, n, d)`, and how many positions each of the n stands for, `(n,)`.
        """
        positions = mask.shape[1]
        # a graph that is compiled, and one without values, have as many positions whatever the mask
        fixed = mask.is_meta or torch.compiler.is_compiling()
        most = positions if fixed else int((mask > 0).sum(1).max())
        index = mask.topk(most, dim=1).indices[:, None]  # N 1 most
        inside = qkv.flatten(2).gather(2, index.expand(-1, qkv.shape[1], -1))
        share = mask[:, None].gather(2, index).to(qkv.dtype)
        bias = self.support_qkv.bias.to(qkv.dtype)[None, :, None]
        kept = share * inside + (1 - share) * bias
        times = torch.ones(most, device=mask.device)
        if most < positions:
            kept = torch.cat([kept, bias.expand(len(kept), -1, 1)], 2)
            times = torch.cat([times, times.new_tensor([positions - most])])
        return *self._tokens(kept), times

    def _tokens(self, qkv: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`(N, 3C, n)` → three `(N, heads, n, d)`, in float32 at least."""
        exact = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
        tokens = exact.unflatten(1, (3, self.num_heads, -1)).transpose(-2, -1)  # N 3 heads n d
        return tuple(x.contiguous() for x in tokens.unbind(1))


def _mean_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    queries: torch.Tensor | None = None,
    keys: torch.Tensor | None = None,
) -> torch.Tensor:
    """Average Eq. 1 over its queries: the values, weighted by the mean of the softmax's rows.

    Args:
        queries, keys: how many positions each stands for; None: each for itself.

    Shape: `(N, heads, n, d)`, `(N, heads, m, d)` twice → `(N, heads, d)`.
    """
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = (logits if keys is None else logits + keys.log()).softmax(-1)
    if queries is None:
        mean = weights.mean(-2, keepdim=True)
    else:
        mean = (queries / queries.sum()).to(weights.dtype) @ weights
        mean = mean[..., None, :]
    return (mean @ v).squeeze(-2)
