"""The loss in millimetres against its definition."""

import pytest
import torch

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import padded
from nnunet_xmodal.losses.surface_displacement import SurfaceDisplacement


def test_it_is_the_mean_squared_distance_of_every_point_of_every_case():
    surfaces = [20 * torch.randn(count, 3).double() for count in (5, 9)]
    matrices = rigid_transform.matrix(torch.tensor([[3.0, -2, 1, 10, 20, -5], [0.0, 4, 4, -30, 0, 8]]).double())
    expected = []
    for matrix, points in zip(matrices, surfaces):
        inverse = torch.linalg.inv(matrix)
        expected.append(sum(((inverse[:3, :3] @ m + inverse[:3, 3] - m) ** 2).sum() for m in points) / len(points))
    points, exists = padded(surfaces)
    torch.testing.assert_close(SurfaceDisplacement()(matrices, points, exists), sum(expected) / 2)


def test_a_shift_is_its_squared_length_and_the_identity_nothing():
    points = torch.randn(1, 7, 3)
    loss = SurfaceDisplacement()
    assert loss(rigid_transform.matrix(torch.tensor([[2.0, 3, -6, 0, 0, 0]])), points) == pytest.approx(49)
    assert loss(torch.eye(4)[None], points) == 0


def test_its_gradient_is_finite_at_the_truth():
    parameters = torch.zeros(2, 6, requires_grad=True)
    SurfaceDisplacement()(rigid_transform.matrix(parameters), torch.randn(2, 5, 3)).backward()
    assert (parameters.grad == 0).all()
