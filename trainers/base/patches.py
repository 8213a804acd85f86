"""What a step of a reconstruction's training works on."""

from dataclasses import dataclass

import torch


@dataclass
class Patches:
    """A batch on the device.

    Attributes:
        inputs: `(B, C, *spatial)` in physical units.
        target: `(B, 1, *spatial)`.
        mask: float, 1 inside and 0 outside, of the target's shape.
        keys: names of the B cases.
    """

    inputs: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor
    keys: list[str]


@dataclass
class FieldPatches(Patches):
    """A batch of field maps in ppm.

    Attributes:
        spacing: `(B, 3)`, effective, mm along D, H, W.
        direction: `(B, 3)`, unit vectors of the main field along them.
    """

    spacing: torch.Tensor
    direction: torch.Tensor
