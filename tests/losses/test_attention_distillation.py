import math

import pytest
import torch
from torch import nn

from nnunet_xmodal.losses.attention_distillation import (
    AttentionDistillationLoss,
    DistilledSegmentationLoss,
    symmetric_kl,
)
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths


def log_maps(*shape):
    scores = torch.randn(*shape, dtype=torch.float64)
    return scores.flatten(1).log_softmax(1).view(shape)


def kl_by_loop(log_a, log_b):
    """KL(a‖b) of one sample."""
    a, b = log_a.exp().flatten().tolist(), log_b.exp().flatten().tolist()
    return sum(p * math.log(p / q) for p, q in zip(a, b))


@pytest.mark.parametrize("spatial", [(7,), (3, 4), (2, 3, 4)])
def test_symmetric_kl_is_both_divergences_and_the_sum_of_difference_times_log_ratio(spatial):
    log_a, log_b = log_maps(2, *spatial), log_maps(2, *spatial)
    both = [kl_by_loop(a, b) + kl_by_loop(b, a) for a, b in zip(log_a, log_b)]
    difference_times_log_ratio = [
        sum((x - y) * math.log(x / y) for x, y in zip(a.exp().flatten().tolist(), b.exp().flatten().tolist()))
        for a, b in zip(log_a, log_b)
    ]
    for expected in (both, difference_times_log_ratio):
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(symmetric_kl(log_a, log_b), expected, rtol=0, atol=1e-10)


def test_zero_exactly_where_the_maps_are_equal():
    log_a = log_maps(2, 4, 4)
    log_b = log_a.clone()
    log_b[1] = log_b[1].roll(1, 0)
    distance = symmetric_kl(log_a, log_b)
    assert distance[0] == 0 and distance[1] > 0.1


def test_symmetric_and_never_negative():
    log_a, log_b = log_maps(50, 3, 3), log_maps(50, 3, 3)
    torch.testing.assert_close(symmetric_kl(log_a, log_b), symmetric_kl(log_b, log_a))
    assert (symmetric_kl(log_a, log_b) > 0).all()


@pytest.mark.parametrize("scheme", ["ILC", "PLC"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_loss_of_two_streams_is_equation_3_over_4(scheme, dimensions):
    levels, batch = 3, 2
    sizes = [(8 >> level,) * dimensions for level in range(levels)]
    f = [[torch.randn(batch, 2, *size, dtype=torch.float64) for size in sizes] for _ in range(2)]
    chi = AttentionMapGenerationBlock()

    expected = 0.0
    for m in range(levels if scheme == "PLC" else levels - 1):
        for k, other in [(0, 1)] if scheme == "PLC" else [(0, 1), (1, 0)]:
            below = f[other][m if scheme == "PLC" else m + 1]
            for a, b in zip(chi(f[k][m]), chi(below, sizes[m])):
                l_ad = (kl_by_loop(a, b) + kl_by_loop(b, a)) / (2 * math.prod(sizes[m]))  # Eq. 4
                expected += l_ad / batch
    loss = AttentionDistillationLoss()(DistillationPaths(scheme, chi)(f))
    torch.testing.assert_close(loss.item(), expected, rtol=0, atol=1e-10)


def test_scale_of_pairs_is_the_mean_of_half_the_divergences_whatever_the_size():
    pairs = [(log_maps(2, *size), log_maps(2, *size)) for size in [(4, 4), (2, 2), (8, 8)]]
    halves = [(kl_by_loop(a, b) + kl_by_loop(b, a)) / 2 for pair in pairs for a, b in zip(*pair)]
    loss = AttentionDistillationLoss("pairs")(pairs)
    torch.testing.assert_close(loss.item(), sum(halves) / 6, rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="scale must be one of positions, pairs, got 'mean'"):
        AttentionDistillationLoss("mean")


def test_no_gradient_is_stopped():
    f = [[torch.randn(1, 2, 4 >> m, 4 >> m, requires_grad=True) for m in range(2)] for _ in range(2)]
    AttentionDistillationLoss()(DistillationPaths("ILC", AttentionMapGenerationBlock())(f)).backward()
    assert all(level.grad.abs().sum() > 0 for stream in f for level in stream)


def test_a_stopped_gradient_leaves_the_deepest_features_alone():
    f = [[torch.randn(1, 2, 4 >> m, 4 >> m, requires_grad=True) for m in range(2)] for _ in range(2)]
    paths = DistillationPaths("ILC", AttentionMapGenerationBlock(), stop_gradient=True)
    AttentionDistillationLoss()(paths(f)).backward()
    assert all(stream[0].grad.abs().sum() > 0 and stream[1].grad is None for stream in f)


def test_gradient_is_exact():
    chi, loss = AttentionMapGenerationBlock(), AttentionDistillationLoss()
    f, g = (torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True) for size in [(4, 4), (2, 2)])
    assert torch.autograd.gradcheck(lambda f, g: loss([(chi(f), chi(g, (4, 4)))]), (f, g))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_finite_for_huge_activations_under_autocast(dtype):
    f = [[(1e3 * torch.randn(2, 8, 8 >> m, 8 >> m).clamp(-1, 1)).to(dtype) for m in range(3)] for _ in range(2)]
    f = [[level.requires_grad_() for level in stream] for stream in f]
    with torch.autocast("cpu", dtype=dtype):
        loss = AttentionDistillationLoss()(DistillationPaths("ILC", AttentionMapGenerationBlock("mean"))(f))
    assert loss.dtype == torch.float32 and torch.isfinite(loss) and loss > 0
    loss.backward()
    assert all(torch.isfinite(level.grad).all() for stream in f for level in stream)


def test_total_is_segmentation_plus_alpha_times_distillation_in_training_and_segmentation_alone_in_eval():
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    pairs = [(log_maps(2, 4, 4), log_maps(2, 4, 4))]
    segmentation = nn.functional.cross_entropy(logits, target)
    total = DistilledSegmentationLoss(nn.CrossEntropyLoss(), alpha=0.3)
    distillation = sum(symmetric_kl(a, b).mean() / 32 for a, b in pairs)
    torch.testing.assert_close(total((logits, pairs), target), segmentation + 0.3 * distillation, check_dtype=False)
    assert total(logits, target) == segmentation
    total.share = 0.5
    torch.testing.assert_close(total((logits, pairs), target), segmentation + 0.15 * distillation, check_dtype=False)
    total.share = 0.0
    assert total((logits, pairs), target) == segmentation
