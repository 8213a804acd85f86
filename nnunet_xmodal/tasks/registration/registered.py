"""The result of a registration."""

from typing import NamedTuple

import torch


class Registered(NamedTuple):
    """The result of a method.

    Attributes:
        matrix: T, moving → fixed, `(4, 4)` float64 in mm about the centre of the grid.
        seconds: on the wall.
    """

    matrix: torch.Tensor
    seconds: float
