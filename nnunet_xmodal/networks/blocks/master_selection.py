"""Attention that selects what a master modality takes from its assistants (Li et al., 2019)."""

from collections.abc import Sequence

import torch
from torch import nn


class MasterSelection(nn.Module):
    """Assistants' features, weighed at every position of every level by a map in [0, 1]; the master's as they are.

        A_k = sigmoid(ψ(relu(φ([F_master, F_k])))),   F_k ← A_k ⊙ F_k

    φ is a 1×1 convolution to half the width, ψ one to a single channel.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        widths: channels of a stream's features from fine to coarse.
        n_streams: S.
        master: number of the stream, from 0.

    Shape: `[stream][level]` of `(B, widths[level], *spatial_of_level)` → the same.
    """

    def __init__(self, conv_op: type[nn.Module], widths: Sequence[int], n_streams: int, master: int = 0) -> None:
        super().__init__()
        self.master = master
        self.maps = nn.ModuleDict(
            {
                str(stream): nn.ModuleList(
                    nn.Sequential(
                        conv_op(2 * width, max(1, width // 2), kernel_size=1),
                        nn.ReLU(inplace=True),
                        conv_op(max(1, width // 2), 1, kernel_size=1),
                        nn.Sigmoid(),
                    )
                    for width in widths
                )
                for stream in range(n_streams)
                if stream != master
            }
        )

    def forward(self, stream_features: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
        """Weigh the assistants; see the class."""
        of_master = stream_features[self.master]
        selected = list(stream_features)
        for stream, maps in self.maps.items():
            features = stream_features[int(stream)]
            selected[int(stream)] = [
                level * make(torch.cat((guide, level), 1)) for make, guide, level in zip(maps, of_master, features)
            ]
        return selected
