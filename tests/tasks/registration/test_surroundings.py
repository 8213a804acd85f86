"""What lies around a grid: no start brings anything onto the grid that was cut off."""

import numpy as np
import pytest
import torch

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import surface_points
from nnunet_xmodal.geometry.warp import warp
from nnunet_xmodal.tasks.registration.perturbations import fixed_perturbations
from nnunet_xmodal.tasks.registration.surroundings import FARTHEST, amid, voxels_around
from nnunet_xmodal.tasks.registration.turning_point import matrix_about, turning_point

GRID, SPACING = (8, 20, 16), (6.0, 2.5, 3.0)
ORGAN = torch.zeros(GRID)
ORGAN[2:6, 5:15, 4:12] = 1


def bases(about_corner: bool, count: int = 60) -> torch.Tensor:
    """Starts that displace the organ's surface by the farthest that is covered."""
    points, spacing = surface_points(ORGAN, SPACING), torch.tensor(SPACING).double()
    point = turning_point(GRID, spacing, about_corner)
    return matrix_about(fixed_perturbations("case", points - point, FARTHEST, count), point)


def ones(around):
    sides = [side + 2 * more for side, more in zip(GRID, around)]
    return torch.ones(1, 1, *sides, dtype=torch.float64)


@pytest.mark.parametrize("about_corner", [False, True])
def test_a_moving_image_without_content_looks_the_same_from_every_start(about_corner):
    around = voxels_around(GRID, SPACING)
    spacing = torch.tensor(SPACING).double()
    for base in bases(about_corner):
        assert (warp(ones(around), base, spacing, size=GRID) > 1 - 1e-9).all()


def test_cut_to_the_grid_it_would_tell_the_start():
    spacing = torch.tensor(SPACING).double()
    shown = torch.stack([warp(ones((0, 0, 0)), base, spacing) for base in bases(False)])
    wedges = (shown < 1).flatten(1).double().mean(1)
    assert wedges.min() > 0.2  # of the grid is black, from each of the starts


def test_every_rotation_and_a_shift_are_covered():
    around = voxels_around(GRID, SPACING, farthest=5.0)
    rng = np.random.default_rng(0)
    for _ in range(50):
        shift = rng.normal(size=3)
        numbers = [*(5.0 * shift / np.linalg.norm(shift)), *rng.uniform(-180, 180, 3)]
        base = rigid_transform.matrix(torch.tensor(numbers))
        assert (warp(ones(around), base, torch.tensor(SPACING).double(), size=GRID) > 1 - 1e-9).all()


def test_the_grid_amid_its_surroundings():
    whole = np.arange(3 * 6 * 8).reshape(3, 6, 8)
    assert np.array_equal(amid(whole, (1, 2, 4)), whole[1:2, 2:4, 2:6])
    assert np.array_equal(amid(whole[None], whole.shape), whole[None])
