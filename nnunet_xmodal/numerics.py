"""Precision of single operations, and networks without the wrappers of torch."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn


def full_precision(x: torch.Tensor) -> AbstractContextManager:
    """Switch autocast off on the device of `x`; tensors without values (device "meta") know no autocast."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network that `torch.compile` has wrapped, or the network itself."""
    return getattr(network, "_orig_mod", network)
