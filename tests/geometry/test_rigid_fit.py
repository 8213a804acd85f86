"""The weighted rigid fit against the closed form, and its gradient."""

import pytest
import torch
from scipy.spatial.transform import Rotation

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.rigid_fit import ARM, fit_rigid

SMALL = torch.full((6,), 1e-9, dtype=torch.float64)


def kabsch(points, targets, weights):
    """One case, by SciPy."""
    a, b = ((x * weights[:, None]).sum(0) / weights.sum() for x in (points, targets))
    rotation = torch.from_numpy(Rotation.align_vectors(targets - b, points - a, weights=weights)[0].as_matrix())
    return rigid_transform.from_parts(rotation, b - rotation @ a)


def test_exact_matches_are_laid_on_each_other():
    points = 25 * torch.randn(3, 40, 3).double()
    numbers = torch.tensor([[12.0, -8, 5, 20, -15, 30], [0, 0, 0, 0, 0, 45], [20, 0, 0, 0, 0, 0]]).double()
    sought = rigid_transform.matrix(numbers)
    found = fit_rigid(points, rigid_transform.apply(sought, points), torch.ones(3, 40).double(), SMALL, steps=8)
    torch.testing.assert_close(found, sought, atol=1e-6, rtol=0)


def test_without_ridge_it_ends_at_the_closed_form():
    points, weights = 25 * torch.randn(4, 30, 3).double(), torch.rand(4, 30).double()
    targets = rigid_transform.apply(rigid_transform.matrix(torch.tensor([5.0, 3, -6, 15, 10, -20]).double()), points)
    targets = targets + 4 * torch.randn_like(targets)
    found = fit_rigid(points, targets, weights, SMALL, steps=20)
    for case in range(4):
        torch.testing.assert_close(found[case], kabsch(points[case], targets[case], weights[case]), atol=1e-6, rtol=0)


def test_points_without_weight_do_not_count():
    points = 25 * torch.randn(1, 20, 3).double()
    targets, weights = points + torch.tensor([3.0, -4, 12]).double(), torch.ones(1, 20).double()
    targets[0, 5:] += 100 * torch.randn(15, 3).double()
    weights[0, 5:] = 0
    found = fit_rigid(points, targets, weights, SMALL)
    torch.testing.assert_close(found[0, :3, 3], torch.tensor([3.0, -4, 12]).double(), atol=1e-5, rtol=0)


def test_a_ridge_draws_towards_the_identity():
    points = ARM * torch.randn(1, 50, 3).double()
    points = points - points.mean(1, keepdim=True)
    targets, weights = points + torch.tensor([10.0, 0, 0]).double(), torch.full((1, 50), 0.02).double()
    found = fit_rigid(points, targets, weights, torch.ones(6).double())
    assert found[0, 0, 3] == pytest.approx(5)  # as much weight as ridge
    nothing = fit_rigid(points, targets, 0 * weights, torch.ones(6).double())
    torch.testing.assert_close(nothing[0], torch.eye(4).double())


def test_it_has_a_gradient_where_singular_values_are_alike():
    corners = ARM * torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3)[None]
    targets, weights = (corners + 1).requires_grad_(), torch.ones(1, 8).double().requires_grad_()
    ridge = torch.full((6,), 0.5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda q, w: fit_rigid(corners, q, w, ridge), (targets, weights))
