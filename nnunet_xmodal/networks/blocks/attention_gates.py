"""Attention gates on skip connections (Oktay et al., Attention U-Net, 2018)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.norms import batch_norm_of
from nnunet_xmodal.networks.blocks.resized import resized


class AttentionGate(nn.Module):
    """norm(W(α ⊙ X)) with α = sigmoid(ψ(relu(θ(X) + φ(G)))) in [0, 1] per position, upsampled to X.

    θ has kernel and stride 2 and no bias, φ, ψ and W are 1³; G is upsampled to θ(X).

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        channels: C of the skip, also the width within.
        gating_channels: of G.
        norm_op: behind W; batch normalisation as in the published code if None.

    Shape: skip `(B, C, *spatial)`, gating signal `(B, gating_channels, *coarser)` → `(B, C, *spatial)`.
    """

    def __init__(
        self,
        conv_op: type[nn.Module],
        channels: int,
        gating_channels: int,
        norm_op: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.theta = conv_op(channels, channels, kernel_size=2, stride=2, bias=False)
        self.phi = conv_op(gating_channels, channels, kernel_size=1)
        self.psi = conv_op(channels, 1, kernel_size=1)
        self.w = conv_op(channels, channels, kernel_size=1)
        self.norm = (norm_op or batch_norm_of(conv_op))(channels, affine=True)

    def forward(self, skip: torch.Tensor, gating: torch.Tensor) -> torch.Tensor:
        """Weigh the skip by the gating signal; see the class."""
        return self.norm(self.w(self.coefficients(skip, gating) * skip))

    def coefficients(self, skip: torch.Tensor, gating: torch.Tensor) -> torch.Tensor:
        """Return α, `(B, 1, *spatial)`."""
        # a side of 1, or of the anisotropic axis of a patch, cannot be halved
        padded = F.pad(skip, [p for side in reversed(skip.shape[2:]) for p in (0, 1 if side == 1 else 0)])
        theta = self.theta(padded)  # B C *spatial/2
        phi = resized(self.phi(gating), theta.shape[2:])
        return resized(self.psi(F.relu(theta + phi)).sigmoid(), skip.shape[2:])

    def compute_conv_feature_map_size(self, size: Sequence[int], gating_size: Sequence[int]) -> int:
        """Count the numbers in the outputs of its convolutions, nnU-Net's measure of memory."""
        half = torch.Size(max(1, side // 2) for side in size).numel()
        channels = self.w.out_channels
        return channels * (half + torch.Size(gating_size).numel() + torch.Size(size).numel()) + half


class AttentionGates(nn.Module):
    """A gate on every skip but the finest, all steered by the bottleneck, which passes unchanged.

    The gating signal is a 1³ convolution of the bottleneck to half its channels with norm and ReLU.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        widths: channels of the skips from fine to coarse, the bottleneck last.
        norm_op: batch normalisation if None.

    Raises:
        XModalError: for fewer than three levels, between whose ends there is nothing to gate.

    Shape: list of `(B, widths[level], *spatial_of_level)` → the same.
    """

    def __init__(self, conv_op: type[nn.Module], widths: Sequence[int], norm_op: type[nn.Module] | None = None) -> None:
        super().__init__()
        if len(widths) < 3:
            raise XModalError(f"attention gates need at least three levels, the plans have {len(widths)}.")
        gating_channels = max(1, widths[-1] // 2)
        self.gating = nn.Sequential(
            conv_op(widths[-1], gating_channels, kernel_size=1),
            (norm_op or batch_norm_of(conv_op))(gating_channels, affine=True),
            nn.ReLU(),
        )
        self.gates = nn.ModuleList(AttentionGate(conv_op, width, gating_channels, norm_op) for width in widths[1:-1])

    def forward(self, skips: list[torch.Tensor]) -> list[torch.Tensor]:
        """Weigh the skips by the bottleneck; see the class."""
        finest, *gated, bottleneck = skips
        signal = self.gating(bottleneck)
        return [finest, *(gate(skip, signal) for gate, skip in zip(self.gates, gated)), bottleneck]

    def compute_conv_feature_map_size(self, sizes: Sequence[Sequence[int]]) -> int:
        """Count the numbers in the outputs of its convolutions for skips of these sizes, the bottleneck's last."""
        signal = self.gating[0].out_channels * torch.Size(sizes[-1]).numel()
        return signal + sum(
            gate.compute_conv_feature_map_size(size, sizes[-1]) for gate, size in zip(self.gates, sizes[1:-1])
        )
