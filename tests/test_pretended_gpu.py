"""The tests' GPU without one sees what a real one would."""

import pytest
import torch
from torch import nn


def test_what_is_left_on_the_cpu_fails(pretended_gpu):
    with pretended_gpu:
        on_gpu = nn.Linear(2, 3).to("cuda")
        x = torch.zeros(4, 2, device="cuda")
        assert on_gpu(x).device.type == "cuda"
        there = torch.zeros(4, 2)
        for forgotten in (nn.Linear(2, 3), lambda x: x + there, lambda x: torch.cat([x, there])):
            with pytest.raises(RuntimeError, match="device"):
                forgotten(x)
        with pytest.raises(AssertionError, match="a tensor on the GPU is read as an array"):
            x.numpy()
        assert x.cpu().numpy().shape == (4, 2)
