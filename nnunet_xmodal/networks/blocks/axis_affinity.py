"""Affinities along one axis of a feature tensor, and aggregation by them, on views instead of unfolded copies.

The papers unfold the tensor, so that the axis comes first and everything else is flattened behind it: L × N/L. Here the
axis stays where it is: with everything before it as `before` and everything behind it as `after`,

    affinity    Σ_before  θ (L × after) · φᵀ (after × L)
    aggregation for every `before`  A (L × L) · x (L × after)

are the same numbers, from batched products on views.
"""

import torch


def axis_affinity(theta: torch.Tensor, phi: torch.Tensor, axis: int, invert: bool = False) -> torch.Tensor:
    """Row softmax of the products of all pairs of slices.

    Args:
        theta, phi: `(B, C, *spatial)`; axis: 1 for channels, from 2 spatial.
        invert: softmax(max E − E) instead, as in the channel attention of Fu et al. (2019).

    Returns:
        `(B, L, L)`; every row sums to one.
    """
    energy = _energy(theta, phi, axis)
    if invert:
        energy = energy.amax(-1, keepdim=True) - energy
    return energy.softmax(-1)


def _energy(theta: torch.Tensor, phi: torch.Tensor, axis: int) -> torch.Tensor:
    t, p = _around(theta, axis), _around(phi, axis)  # B before L after
    if t.shape[-1] == 1:  # the last axis: one product over everything before it
        return t[..., 0].transpose(1, 2) @ p[..., 0]  # B L before · B before L → B L L
    return (t @ p.transpose(2, 3)).sum(1)  # B before L L → B L L


def aggregate(affinity: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    """Every slice becomes the mean of all slices, weighted by its row.

    Args:
        affinity: `(B, L, L)`; x: `(B, C, *spatial)` with L slices along `axis`.
    """
    around = _around(x, axis)  # B before L after
    if around.shape[-1] == 1:
        mixed = around[..., 0] @ affinity.transpose(1, 2)  # B before L · B L L
    else:
        mixed = affinity.unsqueeze(1) @ around  # B 1 L L · B before L after
    return mixed.view(x.shape)


def _around(x: torch.Tensor, axis: int) -> torch.Tensor:
    """`(B, before, L, after)`."""
    before, after = x.shape[1:axis].numel(), x.shape[axis + 1 :].numel()
    return x.reshape(x.shape[0], before, x.shape[axis], after)
