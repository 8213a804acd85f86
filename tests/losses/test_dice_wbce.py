import math

import pytest
import torch

from nnunet_xmodal.losses.dice_wbce import DiceAndWeightedBCE


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def dice_by_loop(p, y, sigma):
    """Eq. 10 for lists of probabilities and truths."""
    overlap = sum(a * b for a, b in zip(p, y))
    return 1 - (2 * overlap + sigma) / (sum(p) + sum(y) + sigma)


def wbce_by_loop(p, y, lam):
    """Eq. 11, with the number of pixels for |X|."""
    return sum(-lam * b * math.log(a) - (1 - lam) * (1 - b) * math.log(1 - a) for a, b in zip(p, y)) / len(p)


def loss_by_loop(logits, truths, counted, beta, sigma, lam, background):
    """
    Args:
        truths: `[sample][head][pixel]` of 0 and 1; counted: `[sample][pixel]`, False for ignored.
        background: the first head is the complement of the rest.
    """
    dice, wbce = [], []
    for sample, truth, valid in zip(logits, truths, counted):
        for head, (z, y) in enumerate(zip(sample, truth)):
            p = [sigmoid(value) for value, keep in zip(z.flatten().tolist(), valid) if keep]
            y = [value for value, keep in zip(y, valid) if keep]
            if background and head == 0:
                wbce.append(wbce_by_loop(p, y, 1 - lam))
            else:
                wbce.append(wbce_by_loop(p, y, lam))
                dice.append(dice_by_loop(p, y, sigma))
    return sum(dice) / len(dice) + beta * sum(wbce) / len(wbce)


CONSTANTS = {"beta": 0.3, "sigma": 0.7, "lam": 0.9}


@pytest.mark.parametrize("spatial", [(5, 4), (3, 2, 4)])
@pytest.mark.parametrize("ignore", [False, True])
def test_labels_agree_with_a_loop(spatial, ignore):
    logits = torch.randn(2, 3, *spatial, dtype=torch.float64)
    target = torch.randint(0, 4 if ignore else 3, (2, 1, *spatial))
    loss = DiceAndWeightedBCE(**CONSTANTS, ignore_label=3 if ignore else None)(logits, target)
    labels = target.flatten(1).tolist()
    truths = [[[int(value == head) for value in sample] for head in range(3)] for sample in labels]
    counted = [[value != 3 for value in sample] for sample in labels]
    expected = loss_by_loop(logits, truths, counted, **CONSTANTS, background=True)
    torch.testing.assert_close(loss.item(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("spatial", [(5, 4), (3, 2, 4)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
@pytest.mark.parametrize("ignore", [False, True])
def test_regions_agree_with_a_loop(spatial, dtype, ignore):
    logits = torch.randn(2, 2, *spatial, dtype=torch.float64)
    target = torch.rand(2, 3 if ignore else 2, *spatial) < 0.4
    loss = DiceAndWeightedBCE(**CONSTANTS, regions=True, ignore_label=3 if ignore else None)(logits, target.to(dtype))
    truths = [[[int(v) for v in head.flatten()] for head in sample[:2]] for sample in target]
    counted = [[not (ignore and bool(v)) for v in sample[-1].flatten()] for sample in target]
    expected = loss_by_loop(logits, truths, counted, **CONSTANTS, background=False)
    torch.testing.assert_close(loss.item(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("regions", [False, True])
def test_ignored_pixels_have_no_influence(regions):
    loss = DiceAndWeightedBCE(regions=regions, ignore_label=3)
    logits = torch.randn(2, 3, 6, 6, requires_grad=True)
    if regions:
        target = torch.rand(2, 4, 6, 6) < 0.4
        ignored = target[:, -1:]
    else:
        target = torch.randint(0, 4, (2, 1, 6, 6))
        ignored = target == 3
    ignored = ignored.expand_as(logits)
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    assert (gradient[ignored] == 0).all() and (gradient[~ignored] != 0).all()
    torch.testing.assert_close(loss(torch.where(ignored, 50.0, logits), target), value)


def test_all_pixels_ignored_is_no_signal_and_no_nan():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = DiceAndWeightedBCE(ignore_label=3)(logits, torch.full((1, 1, 4, 4), 3))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value == 0 and (gradient == 0).all()


def test_for_one_label_the_background_head_is_the_complement():
    """Heads −z and z say what one sigmoid of z says: the same number as the paper's single output."""
    z, target = torch.randn(2, 1, 5, 5, dtype=torch.float64), torch.randint(0, 2, (2, 1, 5, 5))
    two_heads = DiceAndWeightedBCE()(torch.cat((-z, z), 1), target)
    one_head = DiceAndWeightedBCE(regions=True)(z, target)
    torch.testing.assert_close(two_heads, one_head, rtol=0, atol=1e-12)


def test_perfect_output_costs_nothing_and_a_missed_pixel_more_than_a_false_one():
    loss = DiceAndWeightedBCE(beta=1.0, regions=True)
    target = torch.zeros(1, 1, 8, 8)
    target[..., :4] = 1
    perfect = 200 * (target - 0.5)
    assert loss(perfect, target) == pytest.approx(0, abs=1e-6)
    missed, false = perfect.clone(), perfect.clone()
    missed[0, 0, 0, 0], false[0, 0, 0, -1] = -100, 100
    assert loss(missed, target) > 5 * loss(false, target) > 0  # λ = 0.95


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_finite_for_huge_logits_under_autocast(dtype):
    logits = (1e3 * torch.randn(1, 3, 64, 64).clamp(-1, 1)).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        value = DiceAndWeightedBCE()(logits, torch.randint(0, 3, (1, 1, 64, 64)))
    assert value.dtype == torch.float32 and torch.isfinite(value)
    value.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("regions, heads", [(False, 2), (True, 1)])
def test_gradient_is_exact(regions, heads):
    logits = torch.randn(2, heads, 3, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 2, (2, 1, 3, 3))
    loss = DiceAndWeightedBCE(regions=regions)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)
