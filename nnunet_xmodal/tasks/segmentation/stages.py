"""The stages of a U-Net by level, whatever U-Net it is: all of nnU-Net's, and all here, are stacks of its blocks."""

import torch
from dynamic_network_architectures.building_blocks.residual import StackedResidualBlocks
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import nn

from nnunet_xmodal.errors import XModalError

_STACKS = (StackedConvBlocks, StackedResidualBlocks)


@torch.no_grad()
def stages_by_level(network: nn.Module, tile: torch.Tensor) -> dict[int, list[str]]:
    """Return level, from 1 (fine), → dotted names of its stages, in the order in which they run.

    Args:
        network: unwrapped, in eval mode.
        tile: `(1, C, *patch)` that the network is run on once.
    """
    grids: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: torch.Tensor) -> None:  # returns nothing: what a hook returns takes the output's place
        grids.setdefault(name, tuple(output.shape[2:]))

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name, output))
        for name, module in network.named_modules()
        if isinstance(module, _STACKS)
    ]
    try:
        network(tile)
    finally:
        for hook in hooks:
            hook.remove()
    ordered = sorted(set(grids.values()), key=lambda grid: torch.Size(grid).numel(), reverse=True)
    return {
        level: [name for name, of_stage in grids.items() if of_stage == grid]
        for level, grid in enumerate(ordered, start=1)
    }


def stages_at(levels: dict[int, list[str]], wanted: int, trainer: str) -> list[str]:
    """Return the stages of a level.

    Raises:
        XModalError: for a level that the network has not, and a network without stages.
    """
    if not levels:
        raise XModalError(f"the network of {trainer} has no stages that Grad-CAM could look at: leave out gradcam.")
    if wanted not in levels:
        raise XModalError(f"--level {wanted}: the network of {trainer} has the levels 1 (fine) to {max(levels)}.")
    return levels[wanted]
