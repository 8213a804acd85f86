"""Intensities of a registration network: both images to [0, 1] by what is smallest and largest in both together.

The same functions serve training and prediction, on the grid that the network sees: behind the warp in training, so
that what a resampled moving image has beyond its border counts there as it does at prediction.
"""

import torch


def joint_min_max(images: torch.Tensor) -> torch.Tensor:
    """Scale to (x − min) / (max − min), with min and max over both channels and all voxels of a sample.

    Args:
        images: fixed and moving, `(B, 2, D, H, W)`, a floating type and finite.

    Returns:
        The same shape in [0, 1]; zeros where a sample is constant.
    """
    low, high = images.flatten(1).aminmax(dim=1)  # B
    low, spread = (x.view(-1, *[1] * (images.ndim - 1)) for x in (low, high - low))
    return (images - low) / torch.where(spread > 0, spread, 1)


def label_in_range_of(label: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """Return a label as the fixed image of Attention-Reg (label): the moving image's minimum outside, maximum inside.

    A mask of 0 and 1 beside an image of hundreds would vanish in the joint range.

    Args:
        label: bool, or numbers of which all but 0 are inside, `(B, 1, D, H, W)`.
        moving: `(B, 1, D, H, W)`.

    Returns:
        `(B, 1, D, H, W)` in the type of `moving`.
    """
    low, high = (x.view(-1, *[1] * (moving.ndim - 1)) for x in moving.flatten(1).aminmax(dim=1))
    return torch.where(label != 0, high, low)
