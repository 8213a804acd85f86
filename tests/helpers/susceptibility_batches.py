"""Batches of susceptibility trainings, made once each: total variation takes longer than a tiny network's step."""

from copy import deepcopy
from functools import cache

import numpy as np
import torch

from nnunet_xmodal.geometry.in_plane_rotation import size_before_rotation
from nnunet_xmodal.physics.simulate import local_field

SPACING = (2.0, 1.5, 1.0)


def batch_for(trainer, seed=0, unit=1.0):
    """What nnU-Net's loader hands out, without a margin: smooth maps in a ball, and their fields."""
    size = size_before_rotation(trainer.configuration_manager.patch_size, trainer.rotation, 1.5)
    geometries = tuple(trainer.geometries[f"case_{number}"] for number in range(2))
    return deepcopy(_batch(tuple(size), seed, unit, trainer.field_inputs, geometries))


@cache
def _batch(size, seed, unit, field_inputs, geometries):
    generator = torch.Generator().manual_seed(seed)
    chi = torch.nn.functional.interpolate(
        0.2 * torch.randn(2, 1, *(max(2, side // 6) for side in size), generator=generator), size, mode="trilinear"
    )
    z, y, x = torch.meshgrid(*((torch.arange(side) - (side - 1) / 2) / side for side in size), indexing="ij")
    mask = (z**2 + y**2 + x**2 < 0.12).expand(2, 1, *size)
    directions = torch.tensor([geometry.direction for geometry in geometries])
    field = local_field(chi, mask, SPACING, directions)
    target = torch.where(mask, 1, -1).to(torch.int16)  # −1 is nnU-Net's mark for outside
    channels = [unit * field, chi * mask]
    if field_inputs is not None:
        inverted = [field_inputs.of_field(*case) for case in zip(field[:, 0].numpy(), geometries)]
        channels.append(torch.from_numpy(np.stack(inverted)))
    return {"data": torch.cat(channels, 1), "target": target, "keys": np.array(["case_0", "case_1"])}
