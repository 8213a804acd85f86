"""What a network can say about a wrong input before a convolution does."""

from collections.abc import Sequence

import torch

from nnunet_xmodal.errors import XModalError


def check_input(x: torch.Tensor, channels: int, strides: Sequence[int], training: bool) -> None:
    """Check one batch `(B, channels, *spatial)`.

    The search for NaN costs a synchronisation on a GPU and breaks graphs: it is left out in training, where the
    trainer looks at the batch before it is transferred, and under torch.compile.

    Raises:
        XModalError: for another number of channels, a side that the strides do not divide, NaN or infinity.
    """
    if x.shape[1] != channels:
        raise XModalError(
            f"the network was trained on {channels} input channels but got {x.shape[1]}: is a modality file "
            "(_0000, _0001, …) of a case missing or superfluous?"
        )
    if any(side % stride for side, stride in zip(x.shape[2:], strides)):
        raise XModalError(
            f"the network halves its input {len(strides)} ways by {list(strides)} and got {list(x.shape[2:])}: "
            "take a patch size divisible by these numbers."
        )
    has_values = not torch.compiler.is_compiling() and not x.is_meta
    if not training and has_values and not torch.isfinite(x).all():
        raise XModalError("an input image holds NaN or infinite voxels: replace them, for example by zero.")


def check_grid(x: torch.Tensor, channels: int, grid: Sequence[int], training: bool) -> None:
    """Check one batch `(B, channels, *grid)` of a network that reads one grid only.

    Raises:
        XModalError: for another grid, and as `check_input` does.
    """
    check_input(x, channels, (), training)
    if list(x.shape[2:]) != list(grid):
        raise XModalError(
            f"the network was made for the grid {list(grid)} and got {list(x.shape[2:])}: cut this grid from the "
            "images, or train a network on the other one."
        )
