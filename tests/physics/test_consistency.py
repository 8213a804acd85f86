"""A map in line with its field: the normal equations, and what becomes of the given map."""

import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics import dipole
from nnunet_xmodal.physics.consistency import consistent

SIZE, SPACING, OBLIQUE = (8, 9, 7), (2.0, 1.0, 1.5), (0.36, 0.48, 0.8)
GEOMETRY = (SPACING, OBLIQUE)


@pytest.fixture
def case():
    torch.manual_seed(0)
    mask = torch.zeros(1, 1, *SIZE, dtype=torch.bool)
    mask[..., 1:-1, 1:-1, 1:-1] = True
    return 0.1 * torch.randn(1, 1, *SIZE).double() * mask, 0.02 * torch.randn(1, 1, *SIZE).double() * mask, mask


def test_it_solves_its_normal_equations(case):
    given, field, mask = case
    weight = torch.rand(1, 1, *SIZE).double()
    chi = consistent(given, field, mask, *GEOMETRY, lam=0.05, weight=weight, iterations=200)
    assert (chi[~mask] == 0).all()
    error = (dipole.forward(chi, *GEOMETRY) - field) * mask * weight**2
    gradient = (dipole.forward(error, *GEOMETRY) + 0.05 * (chi - given)) * mask
    right = (dipole.forward(field * mask * weight**2, *GEOMETRY) + 0.05 * given) * mask
    assert gradient.norm() < 2e-4 * right.norm()


def test_the_truth_stays_and_an_error_that_the_field_sees_goes(case):
    truth, _, mask = case
    field = dipole.forward(truth, *GEOMETRY) * mask
    torch.testing.assert_close(consistent(truth, field, mask, *GEOMETRY, lam=0.01), truth, rtol=1e-4, atol=1e-6)
    seen = dipole.forward(torch.randn(1, 1, *SIZE).double(), *GEOMETRY) * mask
    wrong = truth + 0.1 * seen / seen.std()
    made = consistent(wrong, field, mask, *GEOMETRY, lam=0.01, iterations=100)
    assert (made - truth).norm() < 0.7 * (wrong - truth).norm()


def test_lambda_decides_between_field_and_map(case):
    given, field, mask = case
    made = [consistent(given, field, mask, *GEOMETRY, lam=lam, iterations=200) for lam in (1e-3, 1e-1, 10.0, 1e5)]
    from_map = [float((chi - given).norm()) for chi in made]
    from_field = [float(((dipole.forward(chi, *GEOMETRY) - field) * mask).norm()) for chi in made]
    assert from_map == sorted(from_map, reverse=True) and from_field == sorted(from_field)
    torch.testing.assert_close(made[-1], given, rtol=0, atol=1e-5)


def test_cases_of_a_batch_do_not_see_each_other(case):
    given, field, mask = (torch.cat((volume, volume.flip(2))) for volume in case)
    direction = torch.tensor([OBLIQUE, (1.0, 0.0, 0.0)], dtype=torch.float64)
    made = consistent(given, field, mask, SPACING, direction, lam=0.1)
    for number in range(2):
        one = (volume[[number]] for volume in (given, field, mask))
        alone = consistent(*one, SPACING, direction[number].tolist(), lam=0.1)
        torch.testing.assert_close(made[[number]], alone, rtol=1e-3, atol=1e-5)


def test_a_weight_that_is_not_positive_is_a_sentence(case):
    for lam in (0.0, -1.0, float("nan")):
        with pytest.raises(XModalError, match="weight of the given map must be above 0, and is"):
            consistent(*case, *GEOMETRY, lam=lam)
