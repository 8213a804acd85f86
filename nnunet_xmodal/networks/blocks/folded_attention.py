"""Folded attention: a cascade of small attentions, one per axis and one over channels (Zhang et al., 2021, Eq. 5–7)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nnunet_xmodal.networks.blocks.axis_affinity import row_softmax
from nnunet_xmodal.networks.blocks.axis_products import axis_energies, cascade
from nnunet_xmodal.networks.blocks.gram import gram
from nnunet_xmodal.numerics import full_precision


class FoldedAttention(nn.Module):
    """Z = A^c A^d A^w A^h g(X): every output is a weighted mean of all inputs, over positions and channels.

    A^p = softmax(θ(X)_p φ(X)_pᵀ), where X_p is X unfolded along p; the four affinities come from the same θ and φ and
    do not depend on each other, so that the order of the steps does not matter. Together they are the rank-one tensor
    of Eq. 8 for every element.

    Multiply-adds: 3·N·C for the convolutions and 2·N·M for the rest, with N all elements and M the sum of all sides,
    channels included. Affinities are computed in float32 with autocast off: unscaled they reach 4e8.

    In full precision, and where positions outnumber channels, the same is computed with fewer products:

    - the channels' energies from the Gram matrix of x, θφᵀ = W_θ·xxᵀ·W_φᵀ and terms of the biases;
    - those along the other axes from x and (W_θᵀW_φ)·x, because what depends on i alone in θ_i·φ_j leaves a row
      softmax;
    - the channels' step as a part of g, A^c·W_g, because steps along different axes commute;

    which are two products, in one, and the Gram matrix, instead of five. It costs products of C×C matrices, which is
    why few positions of many channels lose by it.

    Args:
        conv_op: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        channels: C.
        residual_beta: each step is x + β·A x with a learned β that begins at 0.
        invert_channel: the channels' affinity is softmax(max E − E), as in the published code.
        scale_logits: energies are divided by √(N/L), the root of how many products they are sums of; without it their
            softmax begins one-hot.
        merged: whether to compute with fewer products; None for where it is faster.

    Shape: `(B, C, *spatial)` → the same.

    Weights without β, of Eq. 7's letter, turn a residual block into that letter when they are loaded.
    """

    def __init__(
        self,
        conv_op: type[nn.Module],
        channels: int,
        residual_beta: bool = False,
        invert_channel: bool = False,
        scale_logits: bool = False,
        merged: bool | None = None,
    ) -> None:
        super().__init__()
        self.theta = conv_op(channels, channels, kernel_size=1)
        self.phi = conv_op(channels, channels, kernel_size=1)
        self.g = conv_op(channels, channels, kernel_size=1)
        self.invert_channel = invert_channel
        self.scale_logits = scale_logits
        self.merged = merged
        dimensions = len(self.theta.kernel_size)
        self.axes = (*range(2, 2 + dimensions), 1)  # h, w, d, channel
        self.beta = nn.Parameter(torch.zeros(len(self.axes))) if residual_beta else None
        self._as_made = residual_beta, invert_channel, scale_logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend over all axes and the channels; see the class."""
        if self._merges(x):
            return self._merged(x)
        return cascade(self._steps(self.affinities(x)), self.g(x), self.axes)

    def affinities(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return A^h, A^w, A^d, A^c, each `(B, L, L)`, in float32."""
        theta, phi = self.theta(x), self.phi(x)
        with full_precision(x):
            exact = torch.promote_types(theta.dtype, torch.float32)
            return self._softmaxes(axis_energies(theta.to(exact), phi.to(exact), self.axes), x)

    def _softmaxes(self, energies: Sequence[torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
        """Row softmaxes, scaled and inverted as they should be."""
        if self.scale_logits:
            energies = [e * (x.shape[axis] / x[0].numel()) ** 0.5 for e, axis in zip(energies, self.axes)]
        *spatial, channel = energies
        return [*(row_softmax(energy) for energy in spatial), row_softmax(channel, self.invert_channel)]

    def _steps(self, affinities: list[torch.Tensor]) -> list[torch.Tensor]:
        """What each step multiplies by: A, or 1 + β·A."""
        if self.beta is None:
            return affinities
        return [
            torch.eye(a.shape[-1], dtype=a.dtype, device=a.device) + beta * a for a, beta in zip(affinities, self.beta)
        ]

    def _merges(self, x: torch.Tensor) -> bool:
        # convolutions in half precision are faster than what would be merged in full
        autocast = not x.is_meta and torch.is_autocast_enabled(x.device.type)  # "meta" knows none
        full = x.dtype in (torch.float32, torch.float64) and not autocast
        if self.merged is not None:
            return self.merged and full
        return full and x[0, 0].numel() >= 4 * x.shape[1]

    def _merged(self, x: torch.Tensor) -> torch.Tensor:
        channels, flat = x.shape[1], x.contiguous().flatten(2)
        layers = (self.theta, self.phi, self.g)
        w_theta, w_phi, w_g = (layer.weight.flatten(1) for layer in layers)  # C × C
        b_theta, b_phi, b_g = (layer.bias.unsqueeze(1) for layer in layers)  # C × 1
        products, sums = gram(flat)
        channel = w_theta @ products @ w_phi.T + (w_theta @ sums) @ b_phi.T
        channel = channel + b_theta @ ((w_phi @ sums).transpose(1, 2) + flat.shape[2] * b_phi.T)

        # the channels' step needs only its own energies, and its product goes into that of x
        *_, axis = self.axes
        scale = (x.shape[axis] / x[0].numel()) ** 0.5 if self.scale_logits else 1.0
        step = row_softmax(channel * scale, self.invert_channel)
        if self.beta is not None:
            step = torch.eye(channels, dtype=x.dtype, device=x.device) + self.beta[-1] * step
        pairing = torch.cat((w_theta.T @ w_phi, b_theta.T @ w_phi))  # C + 1 × C
        weight = torch.cat((pairing.expand(len(x), -1, -1), step @ w_g), 1)
        bias = torch.cat(((w_theta.T @ b_phi).expand(len(x), -1, -1), weight.new_zeros(len(x), 1, 1), step @ b_g), 1)
        y, of_bias, z = torch.baddbmm(bias, weight, flat).split((channels, 1, channels), 1)
        of_bias = of_bias.view(len(x), *x.shape[2:])

        spatial = []
        for energy, axis in zip(axis_energies(x, y.reshape(x.shape), self.axes[:-1]), self.axes):
            others = [of for of in range(1, of_bias.ndim) if of != axis - 1]
            column = of_bias.sum(others) if others else of_bias
            energy = energy + column.unsqueeze(1)
            scale = (x.shape[axis] / x[0].numel()) ** 0.5 if self.scale_logits else 1.0
            spatial.append(row_softmax(energy * scale))
        return cascade(self._steps(spatial), z.reshape(x.shape), self.axes[:-1])

    def _load_from_state_dict(self, state_dict: dict[str, torch.Tensor], prefix: str, *args: Any) -> None:
        residual, inverts, scales = self._as_made
        if residual and f"{prefix}g.weight" in state_dict:  # weights from before have no beta, and are of Eq. 7
            has_beta = f"{prefix}beta" in state_dict
            if not has_beta:
                self.beta = None
            elif self.beta is None:
                self.beta = nn.Parameter(torch.zeros_like(state_dict[f"{prefix}beta"], device=self.g.weight.device))
            self.invert_channel, self.scale_logits = has_beta and inverts, has_beta and scales
        super()._load_from_state_dict(state_dict, prefix, *args)

    def compute_conv_feature_map_size(self, size: list[int]) -> int:
        """Count the numbers in the outputs of its convolutions in the plain form, nnU-Net's measure of memory."""
        return 3 * self.g.out_channels * torch.Size(size).numel()
