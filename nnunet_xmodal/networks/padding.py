"""What surrounds a slice that is smaller than its patch: its background, not the mean of its intensities."""

import numpy as np
import torch


def background_of(image: np.ndarray) -> np.ndarray:
    """Return the darkest value of every channel of a slice, `(C, H, W)` → `(C, 1, 1)`."""
    return image.min((-2, -1), keepdims=True)


def with_background(x: torch.Tensor) -> torch.Tensor:
    """Replace rows and columns of zeros along the borders of slices by the slices' own background.

    nnU-Net pads with 0, which in a z-scored image is the mean of all intensities: a frame as bright as an organ. No
    row of a z-scored scan is 0 throughout, so whole rows and columns of zeros in all channels, from a border inwards,
    are padding; they get the darkest value of their channel in the rest of the slice.

    Shape: `(B, C, H, W)` → the same. Slices that are 0 throughout stay so.
    """
    something = (x != 0).any(1)  # B H W
    inside = _between(something.any(2))[:, None, :, None] & _between(something.any(1))[:, None, None, :]  # B 1 H W
    darkest = x.masked_fill(~inside, float("inf")).amin((2, 3), keepdim=True)
    return torch.where(inside, x, torch.where(darkest.isinf(), 0.0, darkest))


def _between(filled: torch.Tensor) -> torch.Tensor:
    """Return `(B, N)` bool, true from the first to the last true place of each row."""
    counts = filled.to(torch.int32)
    return (counts.cumsum(1) > 0) & (counts.flip(1).cumsum(1).flip(1) > 0)
