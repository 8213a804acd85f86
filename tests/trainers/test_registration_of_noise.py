"""A moving image of noise tells nothing about the fixed one: whatever a registration gains from it is a leak."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import padded, sre, surface_points
from nnunet_xmodal.tasks.registration.mind import MIND
from nnunet_xmodal.tasks.registration.mutual_information import MutualInformation
from nnunet_xmodal.tasks.registration.perturbations import fixed_perturbations, random_perturbations
from nnunet_xmodal.tasks.registration.surroundings import amid, voxels_around
from nnunet_xmodal.tasks.registration.turning_point import matrix_about

GRID, SPACING = (8, 16, 16), (6.0, 4.0, 4.0)
STEPS, BATCH = 120, 8


def batch_of_noise(generator: torch.Generator, cut: bool) -> dict:
    """Images of noise; the moving one is cut to the grid before it is moved, as it must not be, if `cut`."""
    label = torch.zeros(GRID)
    label[2:6, 4:12, 4:12] = 1
    points, exists = padded([surface_points(label, SPACING).float()] * BATCH)
    sides = [side + 2 * more for side, more in zip(GRID, voxels_around(GRID, SPACING))]
    fixed = torch.randn(BATCH, 1, *GRID, generator=generator)
    moving = F.avg_pool3d(torch.randn(BATCH, 1, *sides, generator=generator), 3, 1, 1) + 3
    return {
        "data": fixed + 3,
        "moving": amid(moving, GRID) if cut else moving,
        "label": label.expand(BATCH, 1, *GRID),
        "points": points,
        "exists": exists,
        "spacing": torch.tensor(SPACING).expand(BATCH, 3),
        "keys": [str(number) for number in range(BATCH)],
    }


@pytest.mark.slow
def test_nothing_is_gained_unless_the_moving_image_is_cut_before_it_is_moved(make_trainer, make_plans):
    plans = make_plans(dimensions=3, channels=2, patch_size=GRID, batch_size=BATCH)
    plans["configurations"]["3d_fullres"]["architecture"] = {
        "network_class_name": "nnunet_xmodal.networks.attention_reg.AttentionReg",
        "arch_kwargs": {"grid": list(GRID)},
        "_kw_requires_import": [],
    }
    gained = {}
    for cut in (False, True):
        torch.manual_seed(0)
        trainer = make_trainer(f"nnUNetTrainerFeatureReg_1epochs_{STEPS}its", plans)
        generator = torch.Generator().manual_seed(0)
        trainer.network.train()
        for _ in range(STEPS):
            trainer.train_step(batch_of_noise(generator, cut))
        trainer.network.eval()
        before, after = [], []
        with torch.no_grad():
            for _ in range(12):
                batch = batch_of_noise(generator, cut)
                batch["perturbation"] = random_perturbations(batch["points"], batch["exists"], trainer.sre_range)
                base = matrix_about(batch["perturbation"], trainer.turning_point(batch))
                before.append(sre(base, batch["points"], batch["exists"]).mean().item())
                after.append(trainer.validation_step(batch)["sre"])
        gained[cut] = 1 - np.mean(after) / np.mean(before)
    assert gained[False] < 0.03
    assert gained[True] > 0.15  # the same training reads the black wedges of what was cut


@pytest.mark.slow
@pytest.mark.parametrize("method", [MutualInformation(threads=1), MIND()], ids=["mutual information", "MIND"])
def test_what_has_not_learnt_gains_nothing_either(method):
    generator = torch.Generator().manual_seed(0)
    before, after = [], []
    for start in range(24):
        batch = batch_of_noise(generator, cut=False)
        points = batch["points"][0].double()
        base = rigid_transform.matrix(fixed_perturbations(str(start), points, (4.0, 20.0), 1))[0]
        found = method(batch["data"][0, 0], batch["moving"][0, 0], SPACING, base).matrix
        before.append(sre(base[None], points[None])[0].item())
        after.append(sre(found[None], points[None])[0].item())
    assert 1 - np.mean(after) / np.mean(before) < 0.03
