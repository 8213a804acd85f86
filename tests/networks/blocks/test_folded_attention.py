"""Folded attention: the paper's counts, its rank-one tensor, and what follows from both."""

from itertools import permutations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_xmodal.networks.blocks.axis_affinity import aggregate, axis_affinity
from nnunet_xmodal.networks.blocks.folded_attention import FoldedAttention

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZES = {1: (7,), 2: (5, 6), 3: (3, 5, 4)}


def block(dimensions: int, channels: int = 4, **options) -> FoldedAttention:
    return FoldedAttention(CONVS[dimensions], channels, **options).double()


def features(dimensions: int, channels: int = 4, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, *SIZES[dimensions], dtype=torch.double)


def test_parameters_of_the_paper():
    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(FoldedAttention(nn.Conv3d, 64)) == 3 * (64**2 + 64)
    assert count(FoldedAttention(nn.Conv3d, 64, residual_beta=True)) == 12_484


@pytest.mark.parametrize("channels, size", [(64, (32, 32, 32)), (8, (4, 6, 10)), (6, (5, 7)), (6, (9,))])
def test_multiply_adds(channels, size):
    attention = FoldedAttention(CONVS[len(size)], channels, merged=False)
    with torch.device("meta"):
        x = torch.empty(1, channels, *size)
    with FlopCounterMode(display=False) as counter:
        attention.to("meta")(x)
    elements, sides = channels * torch.Size(size).numel(), channels + sum(size)
    assert counter.get_total_flops() == 2 * (3 * elements * channels + 2 * elements * sides)
    if channels == 64:
        assert counter.get_total_flops() == 2 * 2**30


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_affinities_of_unfolded_features_by_eq_5(dimensions):
    theta, phi = features(dimensions), features(dimensions)
    for axis in range(1, 2 + dimensions):
        unfolded = [t.movedim(axis, 1).flatten(2) for t in (theta, phi)]  # B L N/L
        expected = (unfolded[0] @ unfolded[1].transpose(1, 2)).softmax(-1)
        torch.testing.assert_close(axis_affinity(theta, phi, axis), expected)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_aggregation_against_a_loop_by_eq_6(dimensions):
    x = features(dimensions)
    for axis in range(1, 2 + dimensions):
        side = x.shape[axis]
        affinity = torch.rand(2, side, side, dtype=torch.double)
        expected = torch.zeros_like(x)
        for sample in range(2):
            for i in range(side):
                for j in range(side):
                    expected[sample].select(axis - 1, i).add_(affinity[sample, i, j] * x[sample].select(axis - 1, j))
        torch.testing.assert_close(aggregate(affinity, x, axis), expected)


def test_the_cascade_is_the_rank_one_tensor_of_eq_8_applied_to_g():
    attention, x = block(3), features(3, batch=1)
    h, w, d, c = (affinity[0] for affinity in attention.affinities(x))
    g = attention.g(x)[0]
    z = attention(x)[0]
    for q in range(g.shape[0]):
        for i in range(g.shape[1]):
            for j in range(g.shape[2]):
                for k in range(g.shape[3]):
                    rank_one = torch.einsum("h,w,d,c->chwd", h[i], w[j], d[k], c[q])
                    torch.testing.assert_close(z[q, i, j, k], (rank_one * g).sum())


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_constants_are_preserved(dimensions):
    attention, x = block(dimensions), features(dimensions)
    constant = torch.full_like(x, 3.5)
    for axis, affinity in zip(attention.axes, attention.affinities(x)):
        torch.testing.assert_close(affinity.sum(-1), torch.ones_like(affinity[..., 0]))
        torch.testing.assert_close(aggregate(affinity, constant, axis), constant)


def test_the_order_of_the_steps_does_not_matter():
    attention, x = block(3), features(3)
    steps, g = list(zip(attention.axes, attention.affinities(x))), attention.g(x)
    expected = attention(x)
    for order in permutations(steps):
        z = g
        for axis, affinity in order:
            z = aggregate(affinity, z, axis)
        torch.testing.assert_close(z, expected)


def test_betas_begin_at_zero_and_learn():
    attention, x = block(3, residual_beta=True), features(3)
    torch.testing.assert_close(attention(x), attention.g(x))
    attention(x).square().sum().backward()
    assert (attention.beta.grad != 0).all()


def test_inverted_channel_affinity():
    attention = block(2)
    inverted = block(2, invert_channel=True)
    inverted.load_state_dict(attention.state_dict())
    x = features(2)
    theta, phi = (t.flatten(2) for t in (attention.theta(x), attention.phi(x)))
    energy = theta @ phi.transpose(1, 2)
    *spatial, channel = inverted.affinities(x)
    torch.testing.assert_close(channel, (-energy).softmax(-1))
    for mine, plain in zip(spatial, attention.affinities(x)):
        torch.testing.assert_close(mine, plain)


OPTIONS = [
    {},
    {"residual_beta": True},
    {"invert_channel": True, "scale_logits": True},
    {"residual_beta": True, "invert_channel": True, "scale_logits": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_fewer_products_give_the_same_with_the_same_gradients(dimensions, options):
    plain, merged = block(dimensions, merged=False, **options), block(dimensions, merged=True, **options)
    if plain.beta is not None:
        torch.nn.init.normal_(plain.beta)
    merged.load_state_dict(plain.state_dict())
    x = features(dimensions)
    weights = torch.randn_like(x)
    results = []
    for attention in (plain, merged):
        one = x.clone().requires_grad_()
        z = attention(one)
        results.append([z, *torch.autograd.grad((z * weights).sum(), [one, *attention.parameters()])])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_fewer_products_are_taken_where_positions_outnumber_channels():
    def flops(channels, size, merged):
        attention = FoldedAttention(nn.Conv3d, channels, merged=merged).to("meta")
        with FlopCounterMode(display=False) as counter:
            attention(torch.empty(1, channels, *size, device="meta"))
        return counter.get_total_flops()

    for channels, size in [(64, (32, 32, 32)), (16, (8, 8, 8))]:
        assert flops(channels, size, None) == flops(channels, size, True) < flops(channels, size, False)
    bottleneck = (320, (6, 8, 8))
    assert flops(*bottleneck, None) == flops(*bottleneck, False) < flops(*bottleneck, True)


def test_half_precision_is_not_merged():
    attention, x = FoldedAttention(nn.Conv2d, 2, merged=True), torch.randn(1, 2, 8, 8)
    assert attention._merges(x) and not attention._merges(x.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not attention._merges(x)


def test_scaled_logits_are_divided_by_the_root_of_how_many_products_they_sum():
    plain, scaled = block(3), block(3, scale_logits=True)
    scaled.load_state_dict(plain.state_dict())
    x = features(3)
    for axis, affinity in zip(plain.axes, scaled.affinities(x)):
        unfolded = [layer(x).movedim(axis, 1).flatten(2) for layer in (plain.theta, plain.phi)]
        summed = unfolded[0].shape[2]
        expected = (unfolded[0] @ unfolded[1].transpose(1, 2) / summed**0.5).softmax(-1)
        torch.testing.assert_close(affinity, expected)


def test_unscaled_affinities_begin_one_hot_and_scaled_ones_do_not():
    x = nn.functional.leaky_relu(torch.randn(1, 64, 8, 8, 8))
    largest = {}
    for scaled in (False, True):
        attention = FoldedAttention(nn.Conv3d, 64, scale_logits=scaled)
        for layer in (attention.theta, attention.phi):
            nn.init.kaiming_normal_(layer.weight, a=1e-2)
        largest[scaled] = [a.amax(-1).mean().item() for a in attention.affinities(x)]
    assert min(largest[False]) > 0.9 and max(largest[True]) < 0.8


def test_weights_without_beta_turn_a_residual_block_into_eq_7():
    literal = block(2)
    residual = block(2, residual_beta=True, invert_channel=True, scale_logits=True)
    x = features(2)
    residual.load_state_dict(literal.state_dict())
    assert torch.equal(residual(x), literal(x))
    kept = block(2, residual_beta=True, invert_channel=True, scale_logits=True)
    kept.load_state_dict(kept.state_dict())
    assert kept.beta is not None and kept.invert_channel and kept.scale_logits
    torch.nn.init.normal_(kept.beta)
    for state, expected in (
        (kept.state_dict(), kept(x)),
        (literal.state_dict(), literal(x)),
        (kept.state_dict(), kept(x)),
    ):
        residual.load_state_dict(state)  # as folds are loaded, one after the other
        assert torch.equal(residual(x), expected)


def test_gradients():
    assert torch.autograd.gradcheck(block(2, 2), features(2, 2, 1).requires_grad_(), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_activations_stay_finite_under_autocast(dtype):
    attention = FoldedAttention(nn.Conv3d, 64)
    x = 100 * torch.randn(1, 64, 4, 8, 8)
    with torch.no_grad():
        energies = attention.theta(x).flatten(2) @ attention.phi(x).flatten(2).transpose(1, 2)
    assert energies.abs().max() > 2 * torch.finfo(torch.float16).max
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        z = attention(x)
        assert torch.isfinite(z).all() and z.dtype == dtype
        assert all(affinity.dtype == torch.float32 for affinity in attention.affinities(x))
