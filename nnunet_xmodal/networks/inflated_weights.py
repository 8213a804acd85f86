"""Weights of one of nnU-Net's networks for a branch of CMFF: of fewer dimensions, and of other input channels.

A 2D kernel becomes a 3D one as in Carreira and Zisserman (2017): repeated along the depth and divided by the number of
repetitions, so that an image which does not change along the depth is answered as before. A transposed convolution
of nnU-Net's has kernels as large as its strides: every voxel hears of one repetition alone, and nothing is divided.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from nnunet_xmodal.networks.branches_unet import UNetBranch

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Misfit(ValueError):
    """Weights of a network that is no branch of this plan, whatever their dimensions; the message says where."""


def inflate_kernel(weight: torch.Tensor, shape: Sequence[int], transposed: bool = False) -> torch.Tensor:
    """Return a kernel `(out, in, y, x)` as one of `shape`, `(out, in, z, y, x)`; one that has this shape as it is.

    Raises:
        Misfit: for shapes that differ in more than the depth.
    """
    shape = tuple(shape)
    if tuple(weight.shape) == shape:
        return weight.clone()
    if weight.ndim != 4 or len(shape) != 5 or tuple(weight.shape) != shape[:2] + shape[3:]:
        raise Misfit(f"is {_sides(weight.shape)} in the checkpoint and {_sides(shape)} in the network")
    depth = shape[2]
    repeated = weight.unsqueeze(2).repeat(1, 1, depth, 1, 1)
    return repeated if transposed else repeated / depth


def for_channels(weight: torch.Tensor, number: int, columns: Sequence[int] | None) -> torch.Tensor:
    """Return the first convolution `(out, in, *kernel)` for another input of `number` channels.

    Args:
        columns: the channels of the weight's input that these are; None for channels of another kind, which are read
            alike: as the mean of the old ones, scaled so that an image with equal channels is answered as before.
    """
    if columns is not None:
        return weight[:, list(columns)].clone()
    return weight.sum(1, keepdim=True).repeat(1, number, *[1] * (weight.ndim - 2)) / number


def input_channels_of(branch: UNetBranch, weights: Mapping[str, torch.Tensor]) -> int:
    """Return how many channels the network of these weights reads.

    Raises:
        Misfit: if the weights have no such convolution.
    """
    name = _first_convolution(branch)[0]
    if name not in weights:
        raise Misfit(f"{name} is missing in the checkpoint")
    return weights[name].shape[1]


def branch_state(
    branch: UNetBranch, weights: Mapping[str, torch.Tensor], columns: Sequence[int] | None
) -> dict[str, torch.Tensor]:
    """Return all that a branch takes from a network: everything but the heads, `.seg_layers.`.

    Args:
        branch: of the network that is to be trained.
        weights: of one of nnU-Net's, 2D or of the branch's dimensions.
        columns: of the first convolution, see `for_channels`.

    Raises:
        Misfit: for weights that are missing, left over or of another shape.
    """
    first = set(_first_convolution(branch))
    transposed = {f"{name}.weight" for name, module in _modules(branch) if isinstance(module, _TRANSPOSED)}
    state = {}
    for name, own in branch.state_dict().items():
        if _is_head(name):
            continue
        if name not in weights:
            raise Misfit(f"{name} is missing in the checkpoint")
        weight = weights[name]
        if name in first:
            weight = for_channels(weight, own.shape[1], columns)
        try:
            state[name] = inflate_kernel(weight, own.shape, name in transposed).to(own.dtype)
        except Misfit as error:
            raise Misfit(f"{name} {error}") from None
    left_over = [name for name in weights if not _is_head(name) and name not in state]
    if left_over:
        raise Misfit(f"{left_over[0]} is in the checkpoint and not in the network")
    return state


def _first_convolution(branch: UNetBranch) -> list[str]:
    """All names of the weight that reads the input: nnU-Net's networks hold their modules under several."""
    convolution = next(module for module in branch.encoder.modules() if isinstance(module, branch.encoder.conv_op))
    return [f"{name}.weight" for name, module in _modules(branch) if module is convolution]


def _modules(branch: UNetBranch) -> list[tuple[str, nn.Module]]:
    return list(branch.named_modules(remove_duplicate=False))


def _is_head(name: str) -> bool:
    return ".seg_layers." in f".{name}"


def _sides(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
