"""Folded attention: a cascade of small attentions, one per axis and one over channels (Zhang et al., 2021, Eq. 5–7)."""

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.axis_affinity import aggregate, row_softmax
from nnunet_xmodal.networks.blocks.axis_products import axis_energies, cascade
from nnunet_xmodal.networks.blocks.full_precision import full_precision


class FoldedAttention(nn.Module):
    """Z = A^c A^d A^w A^h g(X): every output is a weighted mean of all inputs, over positions and channels.

    A^p = softmax(θ(X)_p φ(X)_pᵀ), where X_p is X unfolded along p; the four affinities come from the same θ and φ and
    do not depend on each other, so that the order of the steps does not matter. Together they are the rank-one tensor
    of Eq. 8 for every element.

    Multiply-adds: 3·N·C for the convolutions and 2·N·M for the rest, with N all elements and M the sum of all sides,
    channels included. Affinities are computed in float32 with autocast off: they are not scaled, and reach 4e8.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        channels: C.
        residual_beta: each step is x + β·A x with a learned β that begins at 0.
        invert_channel: the channels' affinity is softmax(max E − E), as in the published code.

    Shape: `(B, C, *spatial)` → the same.
    """

    def __init__(
        self,
        conv_op: type[nn.Module],
        channels: int,
        residual_beta: bool = False,
        invert_channel: bool = False,
    ):
        super().__init__()
        self.theta = conv_op(channels, channels, kernel_size=1)
        self.phi = conv_op(channels, channels, kernel_size=1)
        self.g = conv_op(channels, channels, kernel_size=1)
        self.invert_channel = invert_channel
        dimensions = len(self.theta.kernel_size)
        self.axes = (*range(2, 2 + dimensions), 1)  # h, w, d, channel
        self.beta = nn.Parameter(torch.zeros(len(self.axes))) if residual_beta else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        affinities = self.affinities(x)
        z = self.g(x)
        if self.beta is None:
            return cascade(affinities, z, self.axes)
        for axis, affinity, beta in zip(self.axes, affinities, self.beta.to(z.dtype)):
            z = z + beta * aggregate(affinity, z, axis)
        return z

    def affinities(self, x: torch.Tensor) -> list[torch.Tensor]:
        """A^h, A^w, A^d, A^c, each `(B, L, L)`, in float32."""
        theta, phi = self.theta(x), self.phi(x)
        with full_precision(x):
            exact = torch.promote_types(theta.dtype, torch.float32)
            *spatial, channel = axis_energies(theta.to(exact), phi.to(exact), self.axes)
            return [*(row_softmax(energy) for energy in spatial), row_softmax(channel, self.invert_channel)]

    def compute_conv_feature_map_size(self, size: list[int]) -> int:
        """Numbers in the outputs of its convolutions, nnU-Net's measure of memory."""
        return 3 * self.g.out_channels * torch.Size(size).numel()
