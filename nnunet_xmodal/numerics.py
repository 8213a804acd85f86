"""Precision of single operations, and networks without the wrappers of torch."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch._functorch import config as compilation


def full_precision(x: torch.Tensor) -> AbstractContextManager:
    """Switch autocast off on the device of `x`; tensors without values (device "meta") know no autocast."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def keep_full_precision_in_compiled_backward() -> None:
    """Let compiled backward passes run without autocast, as they do without compilation.

    Recent torch traces both passes within the caller's autocast: what `full_precision` protects in the forward pass
    would run in float16 in the backward one.
    """
    if hasattr(compilation, "backward_pass_autocast"):  # an older torch has no such setting
        compilation.backward_pass_autocast = "off"


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network that `torch.compile` has wrapped, or the network itself."""
    return getattr(network, "_orig_mod", network)
