"""A GPU that is not there: tensors without values that know their device, as torch.compile traces them.

What mixes tensors of the GPU with the CPU's, or forgets to move what it makes, fails as it would on a real one. Numbers
that are read back are 1, arrays are zeros, and there are no gradients: torch's engine wants a real GPU for them.
"""

from collections.abc import Callable

import numpy as np
import pytest
import tiny_models
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

READ_BACK = {"__bool__": True, "__float__": 1.0, "__int__": 1, "item": 1.0}


@pytest.fixture
def pretended_gpu(nnunet_folders, monkeypatch) -> FakeTensorMode:
    """Trainers of `make_trainer` are on it, and so is what they do."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    monkeypatch.setenv("nnUNet_compile", "f")  # which would ask for a real one
    monkeypatch.setattr(tiny_models, "DEVICE", torch.device("cuda"))
    monkeypatch.setattr(nn.Module, "to", moved)
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: None)
    monkeypatch.setattr(torch.Tensor, "numpy", without_values(torch.Tensor.numpy, as_array))
    for method, value in READ_BACK.items():
        replaced = without_values(getattr(torch.Tensor, method), lambda tensor, value=value: value)
        monkeypatch.setattr(torch.Tensor, method, replaced)
    return mode


def without_values(plain: Callable, instead: Callable) -> Callable:
    """What a method of tensors does where they have no values."""
    return lambda tensor, *args, **kwargs: (instead if isinstance(tensor, FakeTensor) else plain)(
        tensor, *args, **kwargs
    )


def as_array(tensor: torch.Tensor, force: bool = False) -> np.ndarray:
    """Zeros; as with values, those of a GPU have to be copied first."""
    assert force or tensor.device.type == "cpu", "a tensor on the GPU is read as an array"
    return np.zeros(tensor.shape)


def moved(module: nn.Module, device: torch.device | str | None = None, memory_format: object = None) -> nn.Module:
    """`Module.to`, which exchanges values in place that these tensors do not have, nor an order of them in memory."""
    moved: dict[int, torch.Tensor] = {}  # of tensors that several parts share
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in moved:
                    there = tensor.detach().to(device)
                    is_parameter = isinstance(tensor, nn.Parameter)
                    moved[id(tensor)] = nn.Parameter(there, tensor.requires_grad) if is_parameter else there
                tensors[name] = moved[id(tensor)]
    return module
