"""Total variation: the same as the plain form, better than it is anywhere near, and exact where it can be."""

import numpy as np
import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics import dipole
from nnunet_xmodal.physics.total_variation import total_variation

SIZE, SPACING, OBLIQUE = (10, 12, 8), (2.0, 1.0, 1.5), (0.36, 0.48, 0.8)
PADDED = (10, 12, 8)


def matrices():
    """D and ∇ as matrices on the periodic grid, column by column."""
    voxels = torch.eye(int(np.prod(SIZE)), dtype=torch.float64).view(-1, 1, *SIZE)
    of_field = dipole.forward(voxels, SPACING, OBLIQUE, padding=1.0).flatten(1).T
    scale = float(np.prod(SPACING)) ** (1 / 3) / np.array(SPACING)
    gradient = torch.cat([((voxels - voxels.roll(1, axis)) * scale[axis]).flatten(1).T for axis in (-3, -2, -1)])
    return of_field, gradient


def cost(chi, field, weight, alpha):
    of_field, gradient = matrices()
    chi, field, weight = chi.flatten(), field.flatten(), weight.flatten()
    return float(0.5 * ((weight * (of_field @ chi - field)) ** 2).sum() + alpha * (gradient @ chi).abs().sum())


def test_it_is_the_plain_form_with_matrices():
    """The steps of the module's docstring, with D and ∇ as dense matrices and linear systems solved as such."""
    torch.manual_seed(0)
    field, mask = 0.02 * torch.randn(1, 1, *SIZE, dtype=torch.float64), torch.rand(1, 1, *SIZE) > 0.3
    alpha, iterations = 1e-3, 7
    mu = 100 * alpha
    of_field, gradient = matrices()
    square = mask.double().flatten()
    f = field.flatten()
    z = u = torch.zeros(len(gradient), dtype=torch.float64)
    y, s = square * f / (square + 1), torch.zeros_like(f)
    v, t = torch.zeros_like(f), torch.zeros_like(f)
    inside, nu = mask.double().flatten(), 0.03
    system = of_field.T @ of_field + mu * gradient.T @ gradient + nu * torch.eye(len(f), dtype=torch.float64)
    for _ in range(iterations):
        right = of_field.T @ (y - s) + mu * gradient.T @ (z - u) + nu * (v - t)
        chi = torch.linalg.solve(system, right)
        v = inside * (chi + t)
        t = t + chi - v
        moved = gradient @ chi + u
        z = moved.sign() * (moved.abs() - alpha / mu).clamp(min=0)
        u = moved - z
        moved = of_field @ chi + s
        y = (square * f + moved) / (square + 1)
        s = moved - y
    found = total_variation(field, mask, SPACING, OBLIQUE, alpha, iterations=iterations, padding=1.0)
    torch.testing.assert_close(found, chi.view_as(field) * mask, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_no_map_near_it_costs_less():
    torch.manual_seed(1)
    field, mask = 0.02 * torch.randn(1, 1, *SIZE, dtype=torch.float64), torch.rand(1, 1, *SIZE) > 0.3
    alpha = 3e-4
    known = mask.double()
    found = total_variation(field, mask, SPACING, OBLIQUE, alpha, iterations=1000, padding=1.0)
    least = cost(found, field, known, alpha)
    for step in (1e-2, 1e-4):
        for seed in range(10):
            moved = found + step * torch.randn(found.shape, generator=torch.Generator().manual_seed(seed)).double()
            assert cost(moved * mask, field, known, alpha) > least
    assert least < 0.9 * cost(torch.zeros_like(found), field, known, alpha)


def test_edges_are_kept_and_noise_is_not():
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip((20, 26, 24), (1.5, 1.0, 1.0))]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))
    chi = torch.from_numpy(distance < 4.0)[None, None].float() * 0.1
    mask = torch.from_numpy(distance < 10.0)[None, None]
    field = dipole.forward(chi, (1.5, 1.0, 1.0), OBLIQUE) * mask
    field = (field + 0.003 * torch.randn(field.shape, generator=torch.Generator().manual_seed(0))) * mask
    found = total_variation(field, mask, (1.5, 1.0, 1.0), OBLIQUE, alpha=5e-4)
    error = (found - found[mask].mean() - chi + chi[mask].mean())[mask]
    assert error.norm() < 0.2 * chi.norm()
    assert found[~mask].abs().max() == 0


def test_it_is_odd_takes_a_direction_per_case_and_knows_no_unit_of_the_weight():
    torch.manual_seed(2)
    field, mask = 0.02 * torch.randn(2, 1, *SIZE), torch.rand(2, 1, *SIZE) > 0.3
    spacing = torch.tensor([SPACING, (1.0, 1.0, 3.0)])
    direction = torch.tensor([OBLIQUE, (1.0, 0.0, 0.0)])
    weight = torch.rand(2, 1, *SIZE) * mask
    found = total_variation(field, mask, spacing, direction, 2e-4, weight)
    torch.testing.assert_close(total_variation(-field, mask, spacing, direction, 2e-4, weight), -found)
    torch.testing.assert_close(
        total_variation(field, mask, spacing, direction, 2e-4, 700 * weight), found, rtol=1e-3, atol=1e-6
    )
    of_mask = total_variation(field, mask, spacing, direction, 2e-4)
    everywhere = torch.ones_like(field)
    torch.testing.assert_close(total_variation(field, mask, spacing, direction, 2e-4, everywhere), of_mask)
    for case in range(2):
        alone = total_variation(
            field[[case]], mask[[case]], spacing[case].tolist(), direction[case].tolist(), 2e-4, weight[[case]]
        )
        torch.testing.assert_close(alone, found[[case]], rtol=1e-4, atol=1e-6)


def test_a_field_that_is_not_trusted_does_not_matter():
    torch.manual_seed(3)
    field, mask = 0.02 * torch.randn(1, 1, *SIZE), torch.ones(1, 1, *SIZE)
    weight = torch.ones_like(field)
    weight[..., 3:6, 4:7, 2:5] = 0
    spoilt = torch.where(weight > 0, field, 1.0)
    args = (mask, SPACING, OBLIQUE, 2e-4, weight)
    torch.testing.assert_close(total_variation(spoilt, *args), total_variation(field, *args))


def test_a_weight_that_is_not_positive_is_a_sentence():
    field = torch.zeros(1, 1, *SIZE)
    for alpha in (0.0, -1.0, float("nan")):
        with pytest.raises(XModalError, match="weight of total variation must be above 0, and is"):
            total_variation(field, field, SPACING, OBLIQUE, alpha)
