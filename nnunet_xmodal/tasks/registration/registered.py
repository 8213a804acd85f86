"""What a registration returns."""

from typing import NamedTuple

import torch


class Registered(NamedTuple):
    """
    Attributes:
        matrix: T, moving → fixed, `(4, 4)` float64 in mm about the centre of the grid.
        seconds: on the wall.
    """

    matrix: torch.Tensor
    seconds: float
