"""Products and exponentials that leave float16 run outside of autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(x: torch.Tensor) -> AbstractContextManager:
    """Autocast off on the device of `x`; tensors without values (device "meta") know no autocast."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
