"""Check that a start leaves something to compare."""

from collections.abc import Sequence

import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.warp import warp


def check_overlap(
    shape: Sequence[int], moving_shape: Sequence[int], spacing: Sequence[float], base: torch.Tensor
) -> None:
    """Check that two images overlap at the start.

    Args:
        shape, moving_shape: of the fixed image and of the moving one around the same centre, voxels along D, H, W.
        spacing: of both, mm along them.
        base: where the moving image begins, `(4, 4)`.

    Raises:
        XModalError: when no voxel of the fixed image reads from within the moving one.
    """
    everywhere = torch.ones(1, 1, *moving_shape, device=base.device)
    if not (warp(everywhere, base.float(), base.new_tensor(spacing), size=shape) > 0.5).any():
        raise XModalError(
            "the moving image does not overlap with the fixed one: begin with a start at which it does, for example "
            "with the centres of both images on each other."
        )
