"""The two products behind attention along an axis, and two steps of autograd that are made of nothing else.

    energies     E (L × L) = Σ_before  t (L × after) · pᵀ (after × L)
    aggregation  for every `before`    A (L × L) · x (L × after)

with `before` and `after` the sides before and behind the axis, so that all operands are views of contiguous tensors.
Each product is the other's gradient: dt and dp are aggregations of p and t by dE and dEᵀ; dA is the energy of dz and x,
and dx the aggregation of dz by Aᵀ.

Features are large and these matrices small, so that reading and writing is what costs. Autograd's own backward pass
would write one gradient per axis and add them up; here the products add to the first one in place.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from nnunet_xmodal.numerics import full_precision


def axis_energies(t: torch.Tensor, p: torch.Tensor, axes: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """Multiply all pairs of slices: `(B, C, *spatial)`, twice → `(B, L, L)` for each axis, 1 being the channels."""
    p = p.view_as(p) if p is t else p  # torch.compile takes no tensor twice
    return _AxisEnergies.apply(t.contiguous(), p.contiguous(), tuple(axes))


def cascade(matrices: Sequence[torch.Tensor], x: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """Replace every slice by a sum of all, weighted by a row of the `(B, L, L)`; along one axis after the other.

    All in the dtype of x, under autocast as well.
    """
    with full_precision(x):
        return _Cascade.apply(x.contiguous(), tuple(axes), *(matrix.to(x.dtype) for matrix in matrices))


class _AxisEnergies(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: torch.Tensor, p: torch.Tensor, axes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(t, p)
        ctx.axes = axes
        return tuple(_energy(t, p, axis) for axis in axes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        t, p = ctx.saved_tensors
        with full_precision(t):
            (axis, grad), *others = sorted(zip(ctx.axes, grads), key=lambda step: step[0])  # channels are slow to add
            dt, dp = _aggregation(grad, p, axis), _aggregation(grad.transpose(1, 2), t, axis)
            for axis, grad in others:
                _add_aggregation(dt, grad, p, axis)
                _add_aggregation(dp, grad.transpose(1, 2), t, axis)
        return dt, dp, None


class _Cascade(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, axes: tuple[int, ...], *matrices: torch.Tensor) -> torch.Tensor:
        inputs, z = [], x
        for axis, matrix in zip(axes, matrices):
            inputs.append(z)
            z = _aggregation(matrix, z, axis)
        ctx.save_for_backward(*matrices, *inputs)
        ctx.axes = axes
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        steps = len(ctx.axes)
        matrices, inputs = ctx.saved_tensors[:steps], ctx.saved_tensors[steps:]
        dz, gradients = dz.contiguous(), []
        with full_precision(dz):
            for axis, matrix, x in zip(ctx.axes[::-1], matrices[::-1], inputs[::-1]):
                gradients.append(_energy(dz, x, axis))
                dz = _aggregation(matrix.transpose(1, 2), dz, axis)
        return dz, None, *gradients[::-1]


def _energy(t: torch.Tensor, p: torch.Tensor, axis: int) -> torch.Tensor:
    if _is_last(t, axis):
        return t.flatten(1, -2).transpose(1, 2) @ p.flatten(1, -2)  # B L before · B before L → B L L
    partial = torch.bmm(_slices(t, axis), _slices(p, axis).transpose(1, 2))  # B·before L L
    return partial.unflatten(0, (len(t), -1)).sum(1)


def _aggregation(matrix: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    if _is_last(x, axis):
        return (x.flatten(1, -2) @ matrix.transpose(1, 2)).view(x.shape)  # B before L · B L L
    slices = _slices(x, axis)
    return torch.bmm(_for_each(slices, matrix), slices).view(x.shape)


def _add_aggregation(total: torch.Tensor, matrix: torch.Tensor, x: torch.Tensor, axis: int) -> None:
    """`_aggregation`, added to `total` in place."""
    if _is_last(x, axis):
        total.flatten(1, -2).baddbmm_(x.flatten(1, -2), matrix.transpose(1, 2))
    else:
        slices = _slices(x, axis)
        _slices(total, axis).baddbmm_(_for_each(slices, matrix), slices)


def _slices(x: torch.Tensor, axis: int) -> torch.Tensor:
    """View of `(B·before, L, after)`."""
    return x.view(-1, x.shape[axis], x.shape[axis + 1 :].numel())


def _is_last(x: torch.Tensor, axis: int) -> bool:
    """There is nothing behind the last axis, but one product over everything before it."""
    return axis == x.dim() - 1


def _for_each(slices: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """`(B, L, L)` → `(B·before, L, L)`, without copies for a single sample."""
    return matrix.unsqueeze(1).expand(-1, len(slices) // len(matrix), -1, -1).flatten(0, 1)
