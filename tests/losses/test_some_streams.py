import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.losses.some_streams import TwiceSeenLoss


class Squares(nn.Module):
    """A loss with the interface of nnU-Net's: lists of levels, or the finest alone."""

    def forward(self, output, target):
        pairs = zip(output, target) if isinstance(output, list) else [(output, target)]
        return sum((o - t).square().mean() for o, t in pairs)


def levels(samples):
    return [torch.randn(samples, 3, side, side) for side in (8, 4)]


@pytest.mark.parametrize("distillation", [0.0, 0.5])
def test_of_as_many_samples_as_targets_it_is_the_segmentation_loss(distillation):
    output, target = levels(2), levels(2)
    loss = TwiceSeenLoss(Squares(), distillation=distillation)
    assert loss(output, target) == Squares()(output, target)
    assert loss(output[0], target[0]) == Squares()(output[0], target[0])


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
def test_both_halves_count_by_their_weight(weight):
    complete, some, target = levels(2), levels(2), levels(2)
    both, loss = [torch.cat(pair) for pair in zip(complete, some)], TwiceSeenLoss(Squares(), weight)
    expected = (1 - weight) * Squares()(complete, target) + weight * Squares()(some, target)
    torch.testing.assert_close(loss(both, target), expected)
    expected = (1 - weight) * Squares()(complete[0], target[0]) + weight * Squares()(some[0], target[0])
    torch.testing.assert_close(loss(both[0], target[0]), expected)


@pytest.mark.parametrize("regions", [False, True])
def test_what_is_added_is_the_divergence_from_the_complete_half_at_full_resolution(regions):
    complete, some, target = levels(2), levels(2), levels(2)
    both = [torch.cat(pair).requires_grad_() for pair in zip(complete, some)]
    plain, distilled = (TwiceSeenLoss(Squares(), 0.2, gamma, regions)(both, target) for gamma in (0.0, 0.3))
    if regions:
        p, q = complete[0].sigmoid(), some[0].sigmoid()
        expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    else:
        expected = F.kl_div(some[0].log_softmax(1), complete[0].softmax(1), reduction="sum") / (2 * 8 * 8)
    added = distilled - plain
    torch.testing.assert_close(added, 0.3 * expected)
    (gradient,) = torch.autograd.grad(added, both[:1])
    assert not gradient[:2].any() and gradient[2:].all()  # the complete half is a target


def test_halves_that_agree_add_nothing():
    half, target = levels(2), levels(2)
    both = [torch.cat((level, level)) for level in half]
    assert TwiceSeenLoss(Squares(), distillation=1.0)(both, target) == TwiceSeenLoss(Squares())(both, target)
