"""Losses of what networks of other papers put out beside their logits."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.losses.beside import SupervisedBeside
from nnunet_xmodal.losses.distilled_fusion import DistilledFusionLoss
from nnunet_xmodal.losses.soft_agreement import divergence


class TwoLevels(nn.Module):
    """As nnU-Net wraps a loss for deep supervision."""

    loss = nn.CrossEntropyLoss()

    def forward(self, output, target):
        return self.loss(output[0], target[0]) + 0.5 * self.loss(output[1], target[1])


def levels(batch=2, classes=3):
    return [torch.randn(batch, classes, side, side, requires_grad=True) for side in (4, 2)]


def targets():
    return [torch.randint(0, 3, (2, side, side)) for side in (4, 2)]


@pytest.mark.parametrize("mean", [False, True])
def test_heads_beside_the_logits_are_supervised_at_full_resolution(mean):
    logits, beside, target = levels(), [levels()[0] for _ in range(3)], targets()
    supervised, single = SupervisedBeside(TwoLevels(), mean), SupervisedBeside(TwoLevels.loss, mean)
    share = 4 if mean else 1
    others = sum(F.cross_entropy(one, target[0]) for one in beside)
    expected = (TwoLevels()(logits, target) + others) / share
    torch.testing.assert_close(supervised((logits, beside), target), expected)
    expected = (F.cross_entropy(logits[0], target[0]) + others) / share
    torch.testing.assert_close(single((logits[0], beside), target[0]), expected)
    assert torch.equal(supervised(logits, target), TwoLevels()(logits, target))  # in evaluation


@pytest.mark.parametrize("regions", [False, True])
def test_assistants_learn_from_the_master_and_the_master_from_labels(regions):
    logits, master, first, second, target = levels(), levels(), levels(), levels(), targets()
    total = DistilledFusionLoss(TwoLevels(), 0.3, 0.7, regions)((logits, [master, first, second]), target)

    def apart(teacher, student):
        if regions:
            p, q = teacher.sigmoid(), student.sigmoid()
            return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
        p, q = teacher.softmax(1), student.softmax(1)
        return (p * (p / q).log()).sum(1).mean()

    pairs = [(teacher, student) for assistant in (first, second) for teacher, student in zip(master, assistant)]
    expected = TwoLevels()(logits, target) + 0.3 * TwoLevels()(master, target)
    torch.testing.assert_close(total, expected + 0.7 * sum(apart(t.detach(), s) for t, s in pairs) / 4)
    divergence(master[0], first[0], regions).backward()
    assert master[0].grad is None and first[0].grad.abs().sum() > 0
