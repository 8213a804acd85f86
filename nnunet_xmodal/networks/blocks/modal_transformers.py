"""Transformers within and between modalities (Zhang et al., mmFormer, 2022)."""

from collections.abc import Sequence
from math import prod

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.present_streams import zero_where_absent
from nnunet_xmodal.networks.blocks.resized import resized

HEADS = 8
_LARGEST_EMBEDDING = 512


class TransformerLayer(nn.Module):
    """x ← x + MSA(norm(x)), then x ← x + FFN(norm(x)), of tokens that know their positions.

    Args:
        embedding: E, a multiple of `heads`.
        heads: of the attention.
        dropout: of attention, its output and the FFN, whose width is 8·E as in the published code.

    Shape: tokens `(B, N, E)` → the same.
    """

    def __init__(self, embedding: int, heads: int = HEADS, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_of_attention = nn.LayerNorm(embedding)
        self.qkv = nn.Linear(embedding, 3 * embedding, bias=False)
        self.projection = nn.Linear(embedding, embedding)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(embedding),
            nn.Linear(embedding, 8 * embedding),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(8 * embedding, embedding),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Let the tokens attend to each other; see the class."""
        of_heads = self.qkv(self.norm_of_attention(tokens)).unflatten(2, (3, self.heads, -1))  # B N 3 h E/h
        query, key, value = of_heads.permute(2, 0, 3, 1, 4)  # each B h N E/h
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        attended = self.projection(attended.transpose(1, 2).flatten(2))
        tokens = tokens + F.dropout(attended, self.dropout, self.training)
        return tokens + self.feed_forward(tokens)


class ModalTransformers(nn.Module):
    """A transformer of each stream's bottleneck, one of all of them together, and a 1×1 convolution.

    Every position is a token. Where a stream is absent its tokens are 0 between both transformers, as in the published
    code; the attention between streams still sees them.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        channels: C of a stream's bottleneck; a token has 4·C numbers, at most 512.
        n_streams: S.
        size: positions along each axis, of which each has a learned vector per stream; for another size these are
            interpolated linearly.
        dropout: see TransformerLayer.

    Shape: list of `(B, C, *spatial)`, one per stream, and bool `(B, S)` or None where all are present → `(B, C,
    *spatial)`.
    """

    def __init__(
        self, conv_op: type[nn.Module], channels: int, n_streams: int, *, size: Sequence[int], dropout: float = 0.1
    ) -> None:
        super().__init__()
        embedding = min(_LARGEST_EMBEDDING, 4 * channels) // HEADS * HEADS or HEADS
        self.size = tuple(size)
        self.encode = nn.ModuleList(conv_op(channels, embedding, kernel_size=1) for _ in range(n_streams))
        self.within = nn.ModuleList(TransformerLayer(embedding, dropout=dropout) for _ in range(n_streams))
        self.between = TransformerLayer(embedding, dropout=dropout)
        self.positions = nn.Parameter(torch.zeros(n_streams, embedding, *size))
        self.decode = conv_op(n_streams * embedding, channels, kernel_size=1)

    def forward(self, features: Sequence[torch.Tensor], present: torch.Tensor | None = None) -> torch.Tensor:
        """Return the fused bottleneck; see the class."""
        size = features[0].shape[2:]
        positions = self._positions(size)  # S of 1 N E
        of_streams = []
        for stream, (encode, within) in enumerate(zip(self.encode, self.within)):
            tokens = within(encode(features[stream]).flatten(2).mT + positions[stream])  # B N E
            of_streams.append(tokens if present is None else zero_where_absent(tokens, present[:, stream]))
        tokens = self.between(torch.cat(of_streams, 1) + torch.cat(positions, 1))  # B S·N E
        maps = [part.mT.unflatten(2, size) for part in tokens.chunk(len(of_streams), 1)]  # S of B E *spatial
        return self.decode(torch.cat(maps, 1))

    def _positions(self, size: torch.Size) -> list[torch.Tensor]:
        positions = resized(self.positions, size)  # S E *spatial
        return list(positions.flatten(2).mT.split(1))

    def compute_conv_feature_map_size(self, size: Sequence[int]) -> int:
        """Count the numbers in the outputs of its convolutions for one sample, nnU-Net's measure of memory."""
        return (sum(encode.out_channels for encode in self.encode) + self.decode.out_channels) * prod(size)
