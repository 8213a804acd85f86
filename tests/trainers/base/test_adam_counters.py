"""Counters of an optimiser that comes out of a checkpoint."""

import torch
from torch import nn

from nnunet_xmodal.trainers.base.adam_counters import counters_on_cpu


def test_they_lie_where_adam_reads_them(pretended_gpu):
    with pretended_gpu:
        weight = nn.Parameter(torch.zeros(3, device="cuda"))
        optimizer = torch.optim.Adam([weight])
        optimizer.state[weight] = {"step": torch.tensor(7.0, device="cuda"), "exp_avg": torch.zeros(3, device="cuda")}
        counters_on_cpu(optimizer)
        assert optimizer.state[weight]["step"].device.type == "cpu"
        assert optimizer.state[weight]["exp_avg"].device.type == "cuda"


def test_an_optimiser_without_counters_stays():
    weight = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], 0.1, momentum=0.9)
    optimizer.state[weight] = {"momentum_buffer": torch.ones(3)}
    counters_on_cpu(optimizer)
    assert list(optimizer.state[weight]) == ["momentum_buffer"]
