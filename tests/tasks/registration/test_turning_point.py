"""Six numbers that turn about the centre of a grid or about its corner."""

import pytest
import torch

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.tasks.registration.turning_point import matrix_about, parameters_about, turning_point

SIZE, SPACING = (8, 20, 16), torch.tensor([[4.0, 1.5, 2.0], [3.0, 1.0, 1.0]]).double()
NUMBERS = torch.tensor([[3.0, -2, 1, 10, 20, -5], [0.0, 4, 4, -30, 0, 8]]).double()


def test_the_corner_is_the_first_voxel():
    corner = turning_point(SIZE, SPACING, about_corner=True)
    expected = [[-7.5 * 2.0, -9.5 * 1.5, -3.5 * 4.0], [-7.5, -9.5, -3.5 * 3.0]]
    torch.testing.assert_close(corner, torch.tensor(expected).double())
    assert torch.equal(turning_point(SIZE, SPACING[0], about_corner=True), corner[0])
    assert (turning_point(SIZE, SPACING, about_corner=False) == 0).all()


def test_the_point_itself_is_shifted_and_not_turned():
    point = turning_point(SIZE, SPACING, about_corner=True)
    moved = rigid_transform.apply(matrix_about(NUMBERS, point), point[:, None])[:, 0]
    torch.testing.assert_close(moved - point, NUMBERS[:, :3])


@pytest.mark.parametrize("about_corner", [False, True])
def test_parameters_are_the_inverse(about_corner):
    point = turning_point(SIZE, SPACING, about_corner)
    torch.testing.assert_close(parameters_about(matrix_about(NUMBERS, point), point), NUMBERS)


def test_about_the_centre_nothing_changes():
    point = turning_point(SIZE, SPACING, about_corner=False)
    assert torch.equal(matrix_about(NUMBERS, point), rigid_transform.matrix(NUMBERS))
