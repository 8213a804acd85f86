import numpy as np
import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import padded, sre
from nnunet_xmodal.tasks.registration.perturbations import (
    ROTATION,
    TRANSLATION,
    fixed_perturbations,
    random_perturbations,
    scaled_to_sre,
)


def ellipsoid(n=400, radii=(25.0, 20.0, 18.0), centre=(3.0, -6.0, 2.0), dtype=torch.float64):
    directions = torch.nn.functional.normalize(torch.randn(n, 3, dtype=dtype), dim=1)
    return directions * torch.tensor(radii, dtype=dtype) + torch.tensor(centre, dtype=dtype)


def limits(dtype=torch.float64):
    return torch.tensor([TRANSLATION] * 3 + [ROTATION] * 3, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "radii", [(25.0, 20.0, 18.0), (2.0, 2.0, 2.0), (90.0, 75.0, 70.0)], ids=["organ", "tiny", "head"]
)
def test_the_requested_sre_is_hit_to_a_hundredth_of_a_millimetre(radii, dtype):
    points = torch.stack([ellipsoid(radii=radii, dtype=dtype) for _ in range(200)])
    wanted = 40 * torch.rand(200, dtype=dtype)
    raw = (2 * torch.rand(200, 6, dtype=dtype) - 1) * limits(dtype)
    scaled, found = scaled_to_sre(raw, wanted, points)
    assert found.float().mean() > 0.9
    measured = sre(rigid_transform.matrix(scaled), points)
    assert (measured - wanted)[found].abs().max() < 0.01
    factors = scaled / raw  # one for all six parameters
    torch.testing.assert_close(factors, factors[:, :1].expand(-1, 6), rtol=1e-4, atol=1e-4)


def test_one_linear_scaling_would_miss():
    points = ellipsoid(radii=(30.0, 28.0, 25.0))[None].expand(500, -1, -1)
    raw = (2 * torch.rand(500, 6).double() - 1) * limits()
    linear = raw * (16 / sre(rigid_transform.matrix(raw), points))[:, None]
    assert (sre(rigid_transform.matrix(linear), points) - 16).abs().max() > 0.2


@pytest.mark.slow
def test_drawn_sres_are_uniform_in_their_range_and_directions_as_the_paper_has_them():
    points = ellipsoid()[None].expand(2000, -1, -1)
    p = random_perturbations(points, None, (0.0, 20.0), torch.Generator().manual_seed(3))
    errors = sre(rigid_transform.matrix(p), points)
    assert -0.01 < errors.min() and errors.max() < 20.01
    np.testing.assert_allclose(np.quantile(errors, np.linspace(0, 1, 11)), np.linspace(0, 20, 11), atol=1.0)
    relative = p / limits() / (p / limits()).abs().amax(1, keepdim=True)
    assert relative.mean(0).abs().max() < 0.06
    spread = relative.std(0)
    torch.testing.assert_close(spread, spread.mean().expand(6), atol=0.04, rtol=0)
    assert p[:, 3:].abs().max() <= 90


def test_a_seed_and_a_range_of_stage_two():
    points = torch.stack([ellipsoid() for _ in range(50)])
    draw = [random_perturbations(points, None, (0.0, 8.0), torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1]) and not torch.allclose(draw[0], draw[2])
    assert sre(rigid_transform.matrix(draw[0]), points).max() < 8.01


def test_padded_surfaces_are_measured_without_their_padding():
    cases = [ellipsoid(n, dtype=torch.float32) for n in (40, 300, 90)]
    points, exists = padded(cases)
    p = random_perturbations(points, exists, 12.0)
    each = [sre(matrix, case).item() for matrix, case in zip(rigid_transform.matrix(p), cases)]
    assert each == pytest.approx([12.0] * 3, abs=0.01)


def test_an_sre_of_zero_is_no_perturbation():
    assert random_perturbations(ellipsoid()[None], None, 0.0).abs().max() < 1e-5


@pytest.mark.parametrize("sre_wanted", [8.0, 16.0, (0.0, 20.0)])
def test_fixed_starts_depend_on_the_case_alone(sre_wanted):
    points = {case: ellipsoid() for case in ("case_001", "case_002")}
    of = {case: fixed_perturbations(case, points[case], sre_wanted, 5) for case in ("case_002", "case_001")}
    state = torch.get_rng_state()
    again = fixed_perturbations("case_001", points["case_001"].float().requires_grad_(), sre_wanted, 5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(again, of["case_001"], atol=1e-4, rtol=0)
    assert not torch.allclose(of["case_001"], of["case_002"])
    many = fixed_perturbations("case_001", points["case_001"], sre_wanted, 12)
    assert torch.equal(many[:5], of["case_001"])
    assert not torch.allclose(fixed_perturbations("case_001", points["case_001"], sre_wanted, 5, seed=1), many[:5])
    if isinstance(sre_wanted, float):
        errors = sre(rigid_transform.matrix(many), points["case_001"])
        torch.testing.assert_close(errors, torch.full_like(errors, sre_wanted), atol=0.01, rtol=0)


def test_no_starts_are_an_empty_table():
    assert fixed_perturbations("case", ellipsoid(), 8.0, 0).shape == (0, 6)


@pytest.mark.parametrize("wrong", [-1.0, (5.0, 2.0), float("nan"), (0.0, float("inf"))])
def test_an_impossible_sre_is_a_sentence(wrong):
    with pytest.raises(XModalError, match="the SRE of perturbations must be"):
        random_perturbations(ellipsoid()[None], None, wrong)


@pytest.mark.slow
def test_an_sre_beyond_what_90_degrees_can_do_is_a_sentence():
    with pytest.raises(XModalError, match="no perturbation moves a surface of the batch by 1e\\+06 mm"):
        random_perturbations(torch.zeros(1, 1, 3), None, 1e6)
