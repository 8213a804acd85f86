"""What every attention block must do, and each rival of folded attention against a naive loop or the paper's count."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.at_bottleneck import AtBottleneck
from nnunet_xmodal.networks.blocks.attention_gates import AttentionGate, AttentionGates
from nnunet_xmodal.networks.blocks.dual_attention import ChannelAttention, DualAttention, PositionAttention
from nnunet_xmodal.networks.blocks.folded_attention import FoldedAttention
from nnunet_xmodal.networks.blocks.non_local import NonLocal
from nnunet_xmodal.networks.blocks.recurrent_slice_attention import RecurrentSliceAttention
from nnunet_xmodal.networks.blocks.self_attention import SelfAttention

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZES = {1: (7,), 2: (4, 6), 3: (2, 4, 3)}
BLOCKS = {
    "FoldedAttention": FoldedAttention,
    "SelfAttention": SelfAttention,
    "dense SelfAttention": partial(SelfAttention, dense=True),
    "NonLocal": NonLocal,
    "RecurrentSliceAttention": RecurrentSliceAttention,
    "DualAttention": DualAttention,
}
U_NET = (32, 64, 128, 256, 512)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def skips_of(dimensions: int, widths=(4, 6, 8, 10), side: int = 16) -> list[torch.Tensor]:
    return [torch.randn(2, width, *[side // 2**level] * dimensions) for level, width in enumerate(widths)]


def on_skips(name: str, dimensions: int, widths=(4, 6, 8, 10)) -> nn.Module:
    if name == "AttentionGates":
        return AttentionGates(CONVS[dimensions], widths)
    return AtBottleneck(BLOCKS[name], CONVS[dimensions], widths)


def make_all_parts_count(module: nn.Module) -> None:
    """Sets the scalars and norms that begin at zero, behind which nothing would be seen."""
    for name, parameter in module.named_parameters():
        if "gamma" in name or "norm.weight" in name:
            nn.init.constant_(parameter, 0.7)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("name", [*BLOCKS, "AttentionGates"])
def test_every_block_keeps_shapes_learns_and_counts_its_features(name, dimensions, count_conv_outputs):
    attention, skips = on_skips(name, dimensions), skips_of(dimensions)
    make_all_parts_count(attention)
    out = attention(skips)
    assert [skip.shape for skip in out] == [skip.shape for skip in skips]
    sum(skip.square().sum() for skip in out).backward()
    for parameter_name, parameter in attention.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name
    sizes = [list(skip.shape[2:]) for skip in skips]
    assert attention.compute_conv_feature_map_size(sizes) == count_conv_outputs(attention, [s[:1] for s in skips])


@pytest.mark.parametrize("name", [*BLOCKS, "AttentionGates"])
def test_every_block_survives_autocast_with_large_activations(name):
    attention, skips = on_skips(name, 3), [100 * skip for skip in skips_of(3)]
    make_all_parts_count(attention)
    with torch.autocast("cpu", dtype=torch.float16), torch.no_grad():
        assert all(torch.isfinite(skip).all() for skip in attention(skips))


def test_parameters_on_the_papers_u_net():
    at_bottom = {name: count(AtBottleneck(block, nn.Conv3d, U_NET)) for name, block in BLOCKS.items()}
    assert at_bottom["FoldedAttention"] == 3 * (512**2 + 512)
    assert at_bottom["RecurrentSliceAttention"] == 787_971
    assert at_bottom["DualAttention"] == 28_906_626
    assert count(PositionAttention(nn.Conv3d, 512)) + count(ChannelAttention()) == 328_322
    assert count(AttentionGates(nn.Conv3d, U_NET)) == 1_022_915


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("dense", [False, True])
def test_self_attention_against_a_loop_over_positions(dimensions, dense):
    attention = SelfAttention(CONVS[dimensions], 3, dense=dense).double()
    x = torch.randn(1, 3, *SIZES[dimensions], dtype=torch.double)
    theta, phi, g = (layer(x)[0].flatten(1) for layer in (attention.theta, attention.phi, attention.g))  # C N
    z = attention(x)[0].flatten(1)
    for i in range(theta.shape[1]):
        logits = torch.stack([theta[:, i] @ phi[:, j] for j in range(theta.shape[1])])
        torch.testing.assert_close(z[:, i], sum(w * g[:, j] for j, w in enumerate(logits.softmax(0))))


def test_non_local_begins_as_the_identity_and_works_on_half_the_channels():
    block, x = NonLocal(nn.Conv3d, 8), torch.randn(2, 8, 2, 3, 4)
    torch.testing.assert_close(block(x), x)
    assert count(block) == 3 * (8 * 4 + 4) + (4 * 8 + 8) + 16


def test_recurrent_slice_attention_against_a_loop_over_slices():
    block, x = RecurrentSliceAttention(nn.Conv3d, 3).double(), torch.randn(1, 3, 2, 4, 3, dtype=torch.double)
    torch.testing.assert_close(block(x), x)  # every γ begins at 0
    with torch.no_grad():
        block.gamma.copy_(torch.tensor([0.5, -1.0, 2.0]))
    expected = x
    for axis, gamma in zip((2, 3, 4), block.gamma):
        theta, phi, g = (layer(expected) for layer in (block.theta, block.phi, block.g))
        slices = range(x.shape[axis])
        mixed = torch.empty_like(x)
        for i in slices:
            logits = torch.stack([(theta.select(axis, i) * phi.select(axis, j)).sum() for j in slices])
            mixed.select(axis, i).copy_(sum(w * g.select(axis, j) for j, w in enumerate(logits.softmax(0))))
        expected = expected + gamma * mixed
    torch.testing.assert_close(block(x), expected)


def test_position_attention_against_a_loop():
    block, x = PositionAttention(nn.Conv2d, 16).double(), torch.randn(1, 16, 2, 3, dtype=torch.double)
    torch.testing.assert_close(block(x), x)
    nn.init.constant_(block.gamma, 0.5)
    query, key, value = (layer(x)[0].flatten(1) for layer in (block.query, block.key, block.value))
    assert query.shape == (2, 6)
    mixed = block(x)[0].flatten(1)
    for i in range(6):
        logits = torch.stack([query[:, i] @ key[:, j] for j in range(6)])
        expected = x[0].flatten(1)[:, i] + 0.5 * sum(w * value[:, j] for j, w in enumerate(logits.softmax(0)))
        torch.testing.assert_close(mixed[:, i], expected)


def test_channel_attention_against_a_loop_prefers_unlike_channels():
    block, x = ChannelAttention().double(), torch.randn(1, 4, 2, 3, dtype=torch.double)
    nn.init.constant_(block.gamma, 0.5)
    flat = x[0].flatten(1)
    for q in range(4):
        energy = torch.stack([flat[q] @ flat[p] for p in range(4)])
        expected = flat[q] + 0.5 * sum(w * flat[p] for p, w in enumerate((energy.max() - energy).softmax(0)))
        torch.testing.assert_close(block(x)[0].flatten(1)[q], expected)


def test_attention_gate_by_its_equation():
    gate = AttentionGate(nn.Conv3d, 4, 6).eval()
    skip, gating = torch.randn(2, 4, 8, 8, 8), torch.randn(2, 6, 2, 2, 2)
    summed = gate.theta(skip) + F.interpolate(gate.phi(gating), size=(4, 4, 4), mode="trilinear")
    alpha = F.interpolate(gate.psi(summed.relu()).sigmoid(), size=(8, 8, 8), mode="trilinear")
    torch.testing.assert_close(gate(skip, gating), gate.norm(gate.w(alpha * skip)))
    coefficients = gate.coefficients(skip, gating)
    assert coefficients.shape == (2, 1, 8, 8, 8) and 0 < coefficients.min() and coefficients.max() < 1


@pytest.mark.parametrize("size, coarse", [((1, 8, 8), (1, 2, 2)), ((5, 7, 9), (2, 3, 4)), ((2, 2, 2), (1, 1, 1))])
def test_attention_gates_of_odd_and_flat_features(size, coarse):
    gate = AttentionGate(nn.Conv3d, 4, 6)
    assert gate(torch.randn(2, 4, *size), torch.randn(2, 6, *coarse)).shape == (2, 4, *size)


def test_attention_gates_need_a_level_between_finest_and_coarsest():
    with pytest.raises(XModalError, match="at least three levels, the plans have 2"):
        AttentionGates(nn.Conv2d, (4, 8))


def test_attention_gates_leave_finest_and_coarsest_skip_alone():
    gates, skips = AttentionGates(nn.Conv2d, (4, 6, 8, 10)), skips_of(2)
    out = gates(skips)
    assert len(gates.gates) == 2
    assert out[0] is skips[0] and out[-1] is skips[-1]
    assert not torch.equal(out[1], skips[1]) and not torch.equal(out[2], skips[2])
