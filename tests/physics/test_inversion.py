from functools import partial

import numpy as np
import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics import dipole
from nnunet_xmodal.physics.inversion import tikhonov, truncated_division

SIZE, SPACING, OBLIQUE = (10, 12, 8), (2.0, 1.0, 1.5), (0.36, 0.48, 0.8)
CIRCULAR = {"spacing": SPACING, "direction": OBLIQUE, "padding": 1.0}
METHODS = [partial(truncated_division, threshold=0.1), partial(tikhonov, lam=0.01)]


def random_map():
    return torch.randn(1, 1, *SIZE, dtype=torch.float64)


def everywhere(x):
    return torch.ones_like(x, dtype=torch.bool)


def with_frequencies(condition):
    """A random map whose Fourier transform is 0 where the condition on D does not hold."""
    return dipole.in_k_space(random_map(), SPACING, OBLIQUE, lambda kernel: condition(kernel).to(kernel), padding=1.0)


def test_truncated_division_is_exact_where_the_dipole_is_above_the_threshold():
    chi = with_frequencies(lambda kernel: kernel.abs() > 0.1)
    field = dipole.forward(chi, **CIRCULAR)
    torch.testing.assert_close(truncated_division(field, everywhere(chi), **CIRCULAR, threshold=0.1), chi)
    assert (truncated_division(field, everywhere(chi), **CIRCULAR, threshold=0.3) - chi).abs().max() > 0.01


def test_truncated_division_underestimates_by_d_over_t_elsewhere():
    chi = with_frequencies(lambda kernel: (kernel.abs() < 0.1) & (kernel != 0))
    found = truncated_division(dipole.forward(chi, **CIRCULAR), everywhere(chi), **CIRCULAR, threshold=0.1)
    expected = dipole.in_k_space(chi, SPACING, OBLIQUE, lambda kernel: kernel.abs() / 0.1, padding=1.0)
    torch.testing.assert_close(found, expected)


def test_a_threshold_next_to_0_inverts_all_but_the_mean():
    chi = with_frequencies(lambda kernel: kernel.abs() > 1e-12)
    assert abs(chi.mean()) < 1e-15
    found = truncated_division(dipole.forward(chi + 5, **CIRCULAR), everywhere(chi), **CIRCULAR, threshold=1e-12)
    torch.testing.assert_close(found, chi, atol=1e-8, rtol=0)


def test_tikhonov_solves_its_normal_equations():
    field = random_map()
    chi = tikhonov(field, everywhere(field), **CIRCULAR, lam=0.05)
    gradient = dipole.forward(dipole.forward(chi, **CIRCULAR) - field, **CIRCULAR) + 0.05 * chi
    assert gradient.abs().max() < 1e-12


def test_tikhonov_vanishes_as_d_f_over_lambda_and_inverts_for_lambda_next_to_0():
    chi = with_frequencies(lambda kernel: kernel.abs() > 0.1)
    field, mask = dipole.forward(chi, **CIRCULAR), everywhere(chi)
    torch.testing.assert_close(1e8 * tikhonov(field, mask, **CIRCULAR, lam=1e8), dipole.forward(field, **CIRCULAR))
    torch.testing.assert_close(tikhonov(field, mask, **CIRCULAR, lam=1e-12), chi, atol=1e-8, rtol=0)
    sizes = [tikhonov(field, mask, **CIRCULAR, lam=lam).norm() for lam in (1e-3, 1e-2, 1e-1, 1.0, 10.0)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("method", METHODS)
def test_both_are_linear_masked_and_take_a_direction_per_sample(method):
    field = torch.randn(2, 1, *SIZE)
    mask = torch.rand(2, 1, *SIZE) > 0.3
    directions = torch.tensor([OBLIQUE, (1.0, 0.0, 0.0)])
    found = method(field, mask, SPACING, directions)
    assert found.dtype == torch.float32 and (found[~mask] == 0).all()
    torch.testing.assert_close(method(-2 * field, mask, SPACING, directions), -2 * found)
    for index, direction in enumerate(directions):
        alone = method(field[index : index + 1], mask[index : index + 1], SPACING, direction)
        torch.testing.assert_close(found[index : index + 1], alone)


@pytest.mark.parametrize("method", METHODS)
def test_both_find_a_ball_in_noise(method):
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip((16, 24, 24), (1.5, 1.0, 1.0))]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))
    chi = torch.from_numpy(distance < 4.0)[None, None].float() * 0.1
    field = dipole.forward(chi, (1.5, 1.0, 1.0), OBLIQUE)
    found = method(field + 0.001 * torch.randn_like(field), everywhere(field), (1.5, 1.0, 1.0), OBLIQUE)
    assert (found - chi).norm() < 0.5 * chi.norm()
    assert 0.05 < found[chi > 0].mean() < 0.11


def test_faulty_parameters_are_sentences():
    field = random_map()
    for threshold in (0.0, -0.1, 0.7, float("nan")):
        with pytest.raises(XModalError, match="threshold must be above 0 and below 2/3"):
            truncated_division(field, everywhere(field), **CIRCULAR, threshold=threshold)
    for lam in (0.0, -1.0, float("nan")):
        with pytest.raises(XModalError, match="regularisation parameter must be above 0"):
            tikhonov(field, everywhere(field), **CIRCULAR, lam=lam)
