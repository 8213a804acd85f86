"""Activations that are computed twice instead of kept."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Checkpointed(nn.Module):
    """Keeps a module's input and output for the backward pass, and computes what is between them once more in it.

    Outputs and gradients are the module's own, to the bit where it has no random layers. It is to be applied inside
    of DistributedDataParallel, which counts the passes through what it wraps.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the module returns."""
        if not torch.is_grad_enabled():
            return self.module(x)
        return checkpoint(self.module, x, use_reentrant=False)
