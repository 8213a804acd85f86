import copy
from functools import partial

import pytest
import torch
from torch import nn

from nnunet_xmodal.networks.blocks.cross_modal_attention import CrossModalAttention

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZES = {1: (7,), 2: (4, 6), 3: (2, 4, 3)}


def both_forms(channels=8, **options):
    fused = CrossModalAttention(channels, **options)
    dense = copy.deepcopy(fused)
    dense.dense = True
    return fused, dense


def inputs(channels=8, size=SIZES[3], scale=1.0, batch=2):
    return [(scale * torch.randn(batch, channels, *size)).requires_grad_() for _ in range(2)]


def test_parameters_of_the_paper():
    assert sum(p.numel() for p in CrossModalAttention(32).parameters()) == 2_192


def test_it_is_equation_1_position_by_position():
    block = CrossModalAttention(6).double().eval()
    primary, cross = (x.double() for x in inputs(6))
    with torch.no_grad():
        theta, phi, g = block.theta(cross).flatten(2), block.phi(primary).flatten(2), block.g(primary).flatten(2)
        y = torch.zeros_like(g)
        for sample in range(2):
            for i in range(y.shape[2]):
                f = [torch.exp(theta[sample, :, i] @ phi[sample, :, j]) for j in range(y.shape[2])]
                y[sample, :, i] = sum(f[j] * g[sample, :, j] for j in range(y.shape[2])) / sum(f)
        expected = primary + block.norm(block.w(y.view(2, -1, *primary.shape[2:])))
        torch.testing.assert_close(block.gathered(primary, cross).flatten(2), y)
        torch.testing.assert_close(block(primary, cross), expected)


@pytest.mark.parametrize("dtype, scale", [(torch.float32, 1.0), (torch.float64, 30.0)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_the_fused_form_is_the_dense_one(dimensions, training, dtype, scale):
    fused, dense = (block.to(dtype).train(training) for block in both_forms(conv_op=CONVS[dimensions]))
    ours = [x.detach().to(dtype).requires_grad_() for x in inputs(size=SIZES[dimensions], scale=scale)]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    a, b = fused(*ours), dense(*theirs)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    a.square().mean().backward()
    b.square().mean().backward()
    for x, y in zip((*ours, *fused.parameters()), (*theirs, *dense.parameters())):
        torch.testing.assert_close(x.grad, y.grad, atol=1e-5 * max(1, y.grad.abs().max().item()), rtol=1e-4)


def test_the_fused_form_is_the_dense_one_on_as_many_positions_as_the_papers():
    fused, dense = (block.eval() for block in both_forms(32))
    primary, cross = inputs(32, (8, 12, 24), batch=1)
    with torch.no_grad():
        torch.testing.assert_close(fused(primary, cross), dense(primary, cross), atol=1e-5, rtol=0)


def test_the_map_gathers_what_the_block_gathers():
    block = CrossModalAttention(8)
    primary, cross = inputs()
    weights = block.attention_map(primary, cross)  # B N N
    assert weights.shape == (2, 24, 24)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 24))
    y = torch.einsum("bij,bej->bei", weights, block.g(primary).flatten(2))
    torch.testing.assert_close(block.gathered(primary, cross).flatten(2), y)


def test_every_parameter_and_both_inputs_get_a_gradient():
    block, (primary, cross) = CrossModalAttention(8), inputs()
    block(primary, cross).square().sum().backward()
    for tensor in (primary, cross, *block.parameters()):
        assert torch.isfinite(tensor.grad).all()
    assert cross.grad.abs().sum() > 0 and primary.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dense", [False, True])
def test_large_activations_survive_autocast(dense, dtype):
    block, (primary, cross) = CrossModalAttention(8, dense=dense), inputs(scale=100.0)
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        assert torch.isfinite(block(primary, cross)).all()


def saved_bytes(run, known):
    """What autograd keeps beside `known`, once per storage, as in benchmarks/speed/attention_blocks.py."""
    known = {tensor.untyped_storage().data_ptr() for tensor in known}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run()
    del out
    return sum(kept.values())


@pytest.mark.slow
def test_at_the_papers_size_it_keeps_a_hundredth_of_the_dense_form():
    """Eq. 1 alone a hundred-and-fortieth; the norm behind W keeps as much in both forms."""
    kept = []
    for block in both_forms(32):
        primary, cross = inputs(32, (16, 24, 24), batch=1)
        known = (*block.parameters(), *block.buffers(), primary, cross)
        kept.append([saved_bytes(partial(run, primary, cross), known) for run in (block.gathered, block)])
    (equation, whole), (dense_equation, dense_whole) = kept
    assert dense_equation > 4 * 9216**2
    assert equation < dense_equation / 140
    assert whole < dense_whole / 95


def test_feature_map_size_is_what_convolutions_put_out(count_conv_outputs):
    block, x = CrossModalAttention(8), torch.randn(2, 8, 3, 4, 5)
    assert block.compute_conv_feature_map_size([3, 4, 5]) == count_conv_outputs(block, x, x)
