"""The counters of Adam, which torch keeps on the CPU and a checkpoint brings back on the GPU."""

import torch


def counters_on_cpu(optimizer: torch.optim.Optimizer) -> None:
    """Put the number of steps of every parameter back on the CPU.

    nnU-Net loads checkpoints onto the GPU, counters included, and Adam reads each of them in every step: hundreds of
    times a resumed training would wait for the GPU.
    """
    for state in optimizer.state.values():
        if "step" in state:
            state["step"] = state["step"].cpu()
