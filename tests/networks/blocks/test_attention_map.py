import math
from itertools import product
from statistics import stdev

import pytest
import torch
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock, spatial_map


def attention_by_loops(features, normalisation):
    """Eq. 1 for one sample `(C, *spatial)`."""
    positions = list(product(*map(range, features.shape[1:])))
    scores = [sum(float(channel[at]) ** 2 for channel in features) for at in positions]
    if normalisation == "mean":
        scores = [score / len(features) for score in scores]
    if normalisation == "std":
        deviation = stdev(scores)
        scores = [score / deviation for score in scores]
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    return torch.tensor([w / sum(weights) for w in weights], dtype=torch.float64).view(features.shape[1:])


def upsampled_by_loops(features, size):
    """P: linear interpolation with half-voxel alignment, `(C, *spatial)` → `(C, *size)`."""
    result = torch.zeros(features.shape[0], *size, dtype=features.dtype)
    for at in product(*map(range, size)):
        corners = [[]]
        for index, target, source in zip(at, size, features.shape[1:]):
            place = max(0.0, (index + 0.5) * source / target - 0.5)
            below = int(place)
            share = place - below
            ends = [(below, 1 - share), (min(below + 1, source - 1), share)]
            corners = [[*corner, end] for corner in corners for end in ends]
        for corner in corners:
            weight = math.prod(share for _, share in corner)
            result[(slice(None), *at)] += weight * features[(slice(None), *(index for index, _ in corner))]
    return result


@pytest.mark.parametrize("normalisation", ["sum", "mean", "std"])
@pytest.mark.parametrize(
    "spatial, size", [((5,), None), ((5,), (10,)), ((3, 4), None), ((3, 4), (6, 8)), ((2, 3, 2), (4, 3, 4))]
)
def test_agrees_with_loops(spatial, size, normalisation):
    features = torch.randn(2, 3, *spatial, dtype=torch.float64)
    log_map = AttentionMapGenerationBlock(normalisation)(features, size)
    upsampled = features if size is None else [upsampled_by_loops(sample, size) for sample in features]
    expected = torch.stack([attention_by_loops(sample, normalisation) for sample in upsampled])
    # "std" adds 1e-6 to the deviation
    torch.testing.assert_close(log_map.exp(), expected, rtol=0, atol=1e-5 if normalisation == "std" else 1e-10)


def test_std_does_not_care_about_scale_or_width():
    block, features = AttentionMapGenerationBlock("std"), torch.randn(2, 4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(block(100 * features), block(features), rtol=0, atol=1e-5)
    torch.testing.assert_close(block(features.repeat(1, 64, 1, 1)), block(features), rtol=0, atol=1e-5)
    plain = AttentionMapGenerationBlock("sum")
    assert not torch.allclose(plain(100 * features), plain(features), rtol=0.1)


def test_std_of_a_stream_that_is_0_is_uniform_with_a_finite_gradient():
    features = torch.zeros(1, 4, 5, 6, requires_grad=True)
    log_map = AttentionMapGenerationBlock("std")(features)
    torch.testing.assert_close(log_map.exp(), torch.full((1, 5, 6), 1 / 30))
    log_map.square().sum().backward()
    assert torch.isfinite(features.grad).all()


def test_upsampling_comes_before_the_sum_of_squares_and_does_not_commute_with_it():
    features, size = torch.randn(1, 4, 4, 4, dtype=torch.float64), (8, 8)
    p_then_r = spatial_map(F.interpolate(features, size, mode="bilinear"))
    r_then_p = F.interpolate(spatial_map(features)[None], size, mode="bilinear")[0]
    block = AttentionMapGenerationBlock()
    torch.testing.assert_close(block(features, size).exp(), p_then_r.flatten(1).softmax(1).view_as(p_then_r))
    assert (p_then_r <= r_then_p + 1e-12).all()  # squares are convex
    assert p_then_r.mean() < 0.8 * r_then_p.mean()


@pytest.mark.parametrize("spatial", [(9,), (5, 6), (3, 4, 5)])
def test_sums_to_one_over_positions_per_sample(spatial):
    log_map = AttentionMapGenerationBlock()(torch.randn(3, 4, *spatial), tuple(2 * side for side in spatial))
    torch.testing.assert_close(log_map.exp().flatten(1).sum(1), torch.ones(3))


def test_does_not_care_about_signs_or_the_order_of_channels():
    block, features = AttentionMapGenerationBlock(), torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(block(-features.flip(1)), block(features))


def test_own_size_is_no_upsampling():
    block, features = AttentionMapGenerationBlock(), torch.randn(1, 4, 5, 6)
    assert torch.equal(block(features, (5, 6)), block(features))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_finite_and_in_float32_under_autocast_for_activations_of_a_thousand(dtype):
    features = (1e3 * torch.randn(2, 8, 4, 4).clamp(-1, 1)).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_map = AttentionMapGenerationBlock()(features, (8, 8))
    assert log_map.dtype == torch.float32
    assert torch.isfinite(log_map).all()
    torch.testing.assert_close(log_map.exp().flatten(1).sum(1), torch.ones(2))
    log_map.mean().backward()
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nothing_is_rounded_between_upsampling_and_softmax(dtype):
    block, features = AttentionMapGenerationBlock(), torch.randn(2, 4, 4, 4).to(dtype)
    assert torch.equal(block(features, (8, 8)), block(features.float(), (8, 8)))


@pytest.mark.parametrize("normalisation", ["sum", "std"])
@pytest.mark.parametrize("size", [None, (4, 6)])
def test_gradient_is_exact(size, normalisation):
    features = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: AttentionMapGenerationBlock(normalisation)(x, size), features)


def test_normalisation_must_be_known():
    with pytest.raises(ValueError, match="normalisation must be one of sum, mean, std, got 'max'"):
        AttentionMapGenerationBlock("max")
