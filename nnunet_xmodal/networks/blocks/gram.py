"""Products of all pairs of channels of one tensor, and their sums: what linear maps of it need to be compared."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable


def gram(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return G with g_cd = Σ_n x_cn·x_dn and s with s_c = Σ_n x_cn: `(B, C, N)` → `(B, C, C)`, `(B, C, 1)`.

    Its own backward pass is one product, (dG + dGᵀ)·x + ds, where autograd's would be two.
    """
    return _Gram.apply(x)


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(x)
        return x @ x.transpose(1, 2), x.sum(2, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_products: torch.Tensor, of_sums: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return torch.baddbmm(of_sums, of_products + of_products.transpose(1, 2), x)
