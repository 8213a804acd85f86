"""Every baseline on images whose transform is known, and MIND beside a naive loop."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import sre
from nnunet_xmodal.geometry.warp import warp
from nnunet_xmodal.tasks.registration.mind import MIND, mind
from nnunet_xmodal.tasks.registration.mutual_information import MutualInformation
from nnunet_xmodal.tasks.registration.resolution_levels import factors_of_levels

SPACING = (2.5, 1.5, 1.2)
SHAPE = (20, 32, 36)
METHODS = {
    "MI": MutualInformation(threads=1, levels=(2, 1)),
    "MIND": MIND(levels=(2, 1), iterations=(50, 10)),
}
START = torch.tensor([3.0, -2.5, 2.0, 4.0, -5.0, 3.0]).double()
POINTS = torch.cartesian_prod(*[torch.tensor([-15.0, 0.0, 15.0]).double()] * 3)


@pytest.fixture(scope="module")
def pair():
    """A fixed image, and a moving one of inverted contrast that lies on it."""
    rng = np.random.default_rng(0)
    fixed = gaussian_filter(rng.normal(size=SHAPE), 4 / np.array(SPACING)) * 10
    fixed = torch.from_numpy(np.where(fixed > 0.2, 1.0, np.where(fixed < -0.3, 0.4, 0.0)))
    noise = 0.05 * torch.from_numpy(rng.normal(size=(2, *SHAPE)))
    return fixed + noise[0], 3 - 2 * fixed + noise[1]


@pytest.mark.parametrize("name", METHODS)
def test_it_finds_the_way_back_from_a_start(pair, name):
    base = rigid_transform.matrix(START)
    assert sre(base, POINTS) > 4
    found = METHODS[name](*pair, SPACING, base)
    assert found.matrix.dtype == torch.float64 and found.matrix.shape == (4, 4) and found.seconds > 0
    assert sre(found.matrix, POINTS) < 0.5


@pytest.mark.parametrize("name", METHODS)
def test_the_matrix_maps_the_moving_image_onto_the_fixed_one(pair, name):
    """With a truth that is not the identity."""
    fixed, moving = pair
    truth = rigid_transform.matrix(START)
    away = warp(moving[None, None], rigid_transform.inverse(truth), torch.tensor(SPACING).double(), padding="border")
    found = METHODS[name](fixed, away[0, 0], SPACING, torch.eye(4))
    assert sre(found.matrix, POINTS, truth=truth) < 0.6


@pytest.mark.parametrize("name", METHODS)
def test_the_same_start_gives_the_same_result_from_arrays_and_tensors(pair, name):
    base = rigid_transform.matrix(START / 2)
    first = METHODS[name](*pair, SPACING, base)
    again = METHODS[name](*(image.numpy() for image in pair), SPACING, base.numpy())
    torch.testing.assert_close(first.matrix, again.matrix, atol=1e-6, rtol=0)  # threads of ITK sum in any order


@pytest.mark.parametrize("name", METHODS)
def test_images_that_do_not_overlap_are_a_sentence(pair, name):
    far = rigid_transform.matrix(torch.tensor([500.0, 0, 0, 0, 0, 0]))
    with pytest.raises(XModalError, match="overlap"):
        METHODS[name](*pair, SPACING, far)


def test_mind_is_its_equation_voxel_by_voxel():
    image = torch.rand(1, 1, 4, 5, 6).double()
    ours = mind(image, sigma=0.5)
    padded = np.pad(image[0, 0].numpy(), 1, mode="edge")
    weights = np.exp(-(np.array([-1, 0, 1]) ** 2) / (2 * 0.5**2))
    weights /= weights.sum()
    offsets = [(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)]
    distance = np.zeros((6, 4, 5, 6))
    for r, (dz, dy, dx) in enumerate(offsets):
        squares = np.empty((4, 5, 6))
        for z, y, x in np.ndindex(4, 5, 6):
            squares[z, y, x] = (padded[z + 1 + dz, y + 1 + dy, x + 1 + dx] - padded[z + 1, y + 1, x + 1]) ** 2
        squares = np.pad(squares, 1, mode="edge")
        for z, y, x in np.ndindex(4, 5, 6):
            patch = squares[z : z + 3, y : y + 3, x : x + 3]
            distance[r, z, y, x] = np.einsum("abc,a,b,c->", patch, weights, weights, weights)
    expected = np.exp(-distance / distance.mean(0))
    np.testing.assert_allclose(ours[0], expected / expected.max(0), atol=1e-12)


def test_mind_does_not_know_brightness_and_contrast():
    image = torch.rand(2, 1, 8, 9, 10).double()
    torch.testing.assert_close(mind(image), mind(5 - 3 * image))
    assert (mind(image).amax(1) == 1).all() and (mind(image) > 0).all()


def test_mind_of_a_constant_image_is_one_and_has_a_gradient():
    image = torch.full((1, 1, 5, 5, 5), 7.0).requires_grad_()
    descriptor = mind(image)
    assert (descriptor == 1).all()
    descriptor.sum().backward()
    assert torch.isfinite(image.grad).all()


def test_mind_has_the_gradient_of_its_differences():
    assert torch.autograd.gradcheck(mind, torch.rand(1, 1, 3, 3, 3).double().requires_grad_())


@pytest.mark.parametrize(
    "shape, spacing, factors",
    [
        ((64, 64, 64), (1.0, 1.0, 1.0), [(4, 4, 4), (2, 2, 2), (1, 1, 1)]),
        ((32, 96, 96), (2.0, 0.5, 0.5), [(1, 4, 4), (1, 2, 2), (1, 1, 1)]),
        ((16, 24, 48), (1.0, 1.0, 1.0), [(2, 3, 4), (2, 2, 2), (1, 1, 1)]),
        ((4, 8, 8), (1.0, 1.0, 1.0), [(1, 1, 1)] * 3),
    ],
    ids=str,
)
def test_levels_tend_to_isotropic_voxels_and_keep_eight(shape, spacing, factors):
    assert factors_of_levels(shape, spacing) == factors
