"""The stages of a U-Net by level, whatever U-Net it is: stacks of nnU-Net's blocks, or what stands in their place."""

import re

import torch
from dynamic_network_architectures.building_blocks.residual import StackedResidualBlocks
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import nn

from nnunet_xmodal.errors import XModalError

_STACKS = (StackedConvBlocks, StackedResidualBlocks)
_IN_THEIR_PLACE = re.compile(r"(.*\.)?(stages\.\d+|stages\.\d+\.convs\.\d+|reductions\.\d+|fusion\.last)")
"""Names of what else may put out a level's features: stages of other blocks; the layers of a stack, which CMFF taps one
by one; the skips of HyperDenseNet; the last layer of CMFF's S_F."""


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

    stacks = {name for name, module in network.named_modules() if isinstance(module, _STACKS)}
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name, output))
        for name, module in network.named_modules()
        if name in stacks or _IN_THEIR_PLACE.fullmatch(name)
    ]
    try:
        network(tile)
    finally:
        for hook in hooks:
            hook.remove()
    grids = {name: grid for name, grid in grids.items() if _is_stage(name, set(grids), stacks)}
    ordered = sorted(set(grids.values()), key=lambda grid: torch.Size(grid).numel(), reverse=True)
    return {
        level: [name for name, of_stage in grids.items() if of_stage == grid]
        for level, grid in enumerate(ordered, start=1)
    }


def _is_stage(name: str, have_run: set[str], stacks: set[str]) -> bool:
    """Of what has run on a level, take each stage once: no layer of a stack that has run, nothing around one."""
    if name in stacks:
        return True
    stack, _, layer = name.rpartition(".convs.")
    if stack:
        return stack not in have_run and f"{stack}.convs.{int(layer) + 1}" not in have_run
    encoder, _, _ = name.rpartition(".reductions.")
    if encoder:
        return not any(other.startswith(f"{encoder}.") and other in stacks for other in have_run)
    return not any(other.startswith(f"{name}.") and other in stacks for other in have_run)


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
