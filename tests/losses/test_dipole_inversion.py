import numpy as np
import pytest
import torch

from nnunet_xmodal.losses.dipole_inversion import DipoleInversionLoss, derivatives_inside, mean_inside
from nnunet_xmodal.physics import dipole

SIZE = (6, 8, 5)
SPACING, OBLIQUE = (2.0, 1.0, 1.5), (0.36, 0.48, 0.8)
GRID = {"spacing": SPACING, "direction": OBLIQUE}


def maps(batch=2):
    return torch.randn(2, batch, 1, *SIZE, dtype=torch.float64).unbind()


def blob(batch=2):
    return torch.rand(batch, 1, *SIZE) > 0.4


def naive_mean(error, mask):
    inside = [abs(e) for e, m in zip(error.flatten().tolist(), mask.flatten().tolist()) if m]
    return sum(inside) / len(inside)


def naive_derivatives(error, mask, spacing):
    total = 0.0
    for axis in range(3):
        found = []
        for index in np.ndindex(*error.shape):
            after = tuple(i + (dim == axis + 2) for dim, i in enumerate(index))
            if after[axis + 2] < error.shape[axis + 2] and mask[index] and mask[after]:
                found.append(abs(error[after] - error[index]).item() / spacing[axis])
        total += sum(found) / len(found)
    return total


def test_terms_are_the_printed_formulas():
    (prediction, target), mask = maps(), blob()
    found = DipoleInversionLoss(model_weight=0.7, gradient_weight=0.3)(prediction, target, mask, **GRID)
    error = (prediction - target) * mask
    fields = [dipole.forward(chi * mask, **GRID) for chi in (prediction, target)]
    field_error = fields[0] - fields[1]
    assert found.l1.item() == pytest.approx(naive_mean(error, mask))
    assert found.model.item() == pytest.approx(naive_mean(field_error, mask))
    gradient = naive_derivatives(error, mask, SPACING) + naive_derivatives(field_error, mask, SPACING)
    assert found.gradient.item() == pytest.approx(gradient)
    assert found.total.item() == pytest.approx(found.l1.item() + 0.7 * found.model.item() + 0.3 * gradient)


def test_qsmnets_form_compares_with_the_measured_field():
    (prediction, target), mask = maps(), blob()
    field = torch.randn_like(target)
    found = DipoleInversionLoss(0.5)(prediction, target, mask, **GRID, field=field)
    field_error = dipole.forward(prediction * mask, **GRID) - field
    assert found.model.item() == pytest.approx(naive_mean(field_error, mask))
    gradient = naive_derivatives((prediction - target) * mask, mask, SPACING)
    gradient += naive_derivatives(field_error, mask, SPACING)
    assert found.gradient.item() == pytest.approx(gradient)
    assert found.total.item() == pytest.approx((found.l1 + 0.5 * found.model + 0.1 * found.gradient).item())


def test_the_true_map_costs_nothing_on_a_patch_unless_the_field_is_the_measured_one():
    """A patch cut from a larger map: sources beyond it are in the measured field."""
    larger = torch.randn(1, 1, 12, 16, 10, dtype=torch.float64)
    cut = (..., slice(3, 9), slice(4, 12), slice(2, 7))
    chi, measured = larger[cut], dipole.forward(larger, **GRID)[cut]
    mask, loss = torch.ones_like(chi), DipoleInversionLoss()
    assert all(term == 0 for term in loss(chi, chi, mask, **GRID))
    assert loss(chi, chi, mask, **GRID, field=measured).model > 0.05


def test_what_lies_outside_the_mask_neither_counts_nor_learns():
    (prediction, target), mask = maps(), blob()
    prediction.requires_grad_()
    loss = DipoleInversionLoss()
    found = loss(prediction, target, mask, **GRID)
    elsewhere = torch.where(mask, prediction, 1e3)
    for term, again in zip(found, loss(elsewhere, torch.where(mask, target, -1e3), mask, **GRID)):
        torch.testing.assert_close(again, term)
    for term in found:
        (gradient,) = torch.autograd.grad(term, prediction, retain_graph=True)
        assert (gradient[~mask] == 0).all() and (gradient[mask] != 0).any()
    (gradient,) = torch.autograd.grad(found.l1, prediction)
    torch.testing.assert_close(gradient[mask].abs(), torch.full((int(mask.sum()),), 1 / mask.sum()).double())


def test_a_batch_has_a_direction_and_a_spacing_each():
    """One mask for all, so that the mean over the batch is that of its samples."""
    (prediction, target), mask = maps(), blob(1).expand(2, -1, -1, -1, -1)
    spacings, directions = torch.tensor([SPACING, (1.0, 1.0, 3.0)]), torch.tensor([OBLIQUE, (1.0, 0.0, 0.0)])
    loss = DipoleInversionLoss()
    together = loss(prediction, target, mask, spacings, directions)
    alone = [
        loss(prediction[i : i + 1], target[i : i + 1], mask[i : i + 1], spacings[i], directions[i]) for i in range(2)
    ]
    for term, *each in zip(together, *alone):
        torch.testing.assert_close(term, sum(each) / 2)


def test_derivatives_are_per_millimetre_and_keep_their_sign():
    ramp = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(1, 1, 6, 4, 4)
    mask = torch.ones_like(ramp)
    assert derivatives_inside(ramp, mask, (2.0, 1.0, 1.0)) == 0.5
    assert derivatives_inside(ramp.transpose(2, 4), mask.transpose(2, 4), (2.0, 1.0, 4.0)) == 0.25
    found = DipoleInversionLoss(0.0, 1.0)(-ramp, ramp, mask, (1.0, 1.0, 1.0), (1.0, 0.0, 0.0))
    assert found.gradient > 2  # a map and its negative have the same absolute derivatives


def test_an_empty_mask_and_a_single_slice_have_finite_losses():
    (prediction, target), mask = maps(), torch.zeros(2, 1, *SIZE)
    prediction.requires_grad_()
    found = DipoleInversionLoss()(prediction, target, mask, **GRID)
    found.total.backward()
    assert found.total == 0 and (prediction.grad == 0).all()
    assert mean_inside(torch.ones(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 2, 2)) == 0
    slice_ = torch.randn(1, 1, 1, 8, 8)
    assert DipoleInversionLoss()(slice_, 0 * slice_, torch.ones_like(slice_), **GRID).total.isfinite()


def test_gradients():
    (prediction, target), mask = maps(1), blob(1)
    loss = DipoleInversionLoss()
    assert torch.autograd.gradcheck(
        lambda x: loss(x, target, mask, **GRID).total, prediction.requires_grad_(), atol=1e-6
    )


def test_half_precision_is_computed_in_full():
    (prediction, target), mask = (x.float() for x in maps()), blob()
    loss = DipoleInversionLoss()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(prediction.half(), target, mask, **GRID)
    assert found.total.dtype == torch.float32
    torch.testing.assert_close(found.total, loss(prediction.half().float(), target, mask, **GRID).total)


def test_gradient_descent_finds_the_map():
    target, mask = maps(1)[0], torch.ones(1, 1, *SIZE)
    found = torch.zeros_like(target, requires_grad=True)
    optimiser, loss = torch.optim.Adam([found], lr=0.05), DipoleInversionLoss()
    before = (found - target).norm().item()
    for _ in range(150):
        optimiser.zero_grad()
        loss(found, target, mask, **GRID).total.backward()
        optimiser.step()
    assert (found - target).norm().item() < 0.1 * before
