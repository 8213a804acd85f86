import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.cross_reference_transformer import CrossReferenceTransformer


def inputs(batch=2, shots=2, channels=6, size=(3, 4), query_size=(2, 5)):
    support = torch.randn(batch, shots, channels, *size, dtype=torch.float64)
    query = torch.randn(batch, channels, *query_size, dtype=torch.float64)
    return support, query, torch.rand(batch, shots, *size, dtype=torch.float64).round()


def attention_by_loop(queries, keys, values, num_heads):
    """Eq. 1 for three `(C, N)`, head by head, averaged over the positions of the queries → `(C,)`."""
    d = len(queries) // num_heads
    out = []
    for head in range(num_heads):
        part = slice(head * d, (head + 1) * d)
        q, k, v = queries[part], keys[part], values[part]
        rows = []
        for i in range(q.shape[1]):
            logits = torch.stack([q[:, i] @ k[:, j] / d**0.5 for j in range(k.shape[1])])
            weights = logits.exp() / logits.exp().sum()
            rows.append(sum(weights[j] * v[:, j] for j in range(v.shape[1])))
        out.append(sum(rows) / len(rows))
    return torch.cat(out)


@pytest.mark.parametrize("num_heads, kind", [(1, "hard"), (2, "soft"), (3, "hard"), (1, "empty"), (1, "full")])
def test_it_is_equation_1_position_by_position_in_both_directions(num_heads, kind):
    """Masks of several sizes at once, with parts of positions, with none and with all."""
    block = CrossReferenceTransformer(6, num_heads, reduction=2).double()
    support, query, mask = inputs()
    if kind == "soft":
        mask = mask * torch.rand_like(mask)
    elif kind != "hard":
        mask = torch.full_like(mask, float(kind == "full"))
    new_support, new_query = block(support, query, mask)
    for b in range(2):
        gates = []
        for s in range(2):
            q_s, k_s, v_s = block.support_qkv((support[b, s] * mask[b, s])[None])[0].flatten(1).chunk(3)
            q_q, k_q, v_q = block.query_qkv(query[b, None])[0].flatten(1).chunk(3)
            of_query = attention_by_loop(q_s, k_q, v_q, num_heads)
            of_support = attention_by_loop(q_q, k_s, v_s, num_heads)
            gates.append(block.support_gate(of_query) * block.query_gate(of_support))
            torch.testing.assert_close(new_support[b, s], support[b, s] * gates[-1].view(-1, 1, 1))
        torch.testing.assert_close(new_query[b], query[b] * (sum(gates) / 2).view(-1, 1, 1))


def test_parameters_at_the_papers_256_channels():
    """Six 1×1 convolutions and two FC blocks."""
    block = CrossReferenceTransformer(256)
    assert sum(p.numel() for p in block.parameters()) == 6 * (256 * 256 + 256) + 16_928


def test_the_channels_of_a_feature_map_have_no_order():
    """Permuted features and permuted weights: permuted outputs, with one head."""
    block, other = CrossReferenceTransformer(6).double(), CrossReferenceTransformer(6).double()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for ours, theirs in ((block.support_qkv, other.support_qkv), (block.query_qkv, other.query_qkv)):
        theirs.weight.data = ours.weight.data.unflatten(0, (3, 6))[:, order][:, :, order].flatten(0, 1)
        theirs.bias.data = ours.bias.data.unflatten(0, (3, 6))[:, order].flatten(0, 1)
    for ours, theirs in ((block.support_gate, other.support_gate), (block.query_gate, other.query_gate)):
        theirs.load_state_dict(ours.state_dict())
        theirs[0].weight.data, theirs[2].weight.data = ours[0].weight.data[:, order], ours[2].weight.data[order]
        theirs[2].bias.data = ours[2].bias.data[order]
    support, query, mask = inputs()
    new_support, new_query = block(support, query, mask)
    permuted_support, permuted_query = other(support[:, :, order], query[:, order], mask)
    torch.testing.assert_close(permuted_support, new_support[:, :, order])
    torch.testing.assert_close(permuted_query, new_query[:, order])


def test_what_lies_outside_of_the_mask_changes_no_gate():
    block = CrossReferenceTransformer(6).double()
    support, query, mask = inputs()
    other = torch.where(mask[:, :, None] > 0, support, torch.randn_like(support))
    torch.testing.assert_close(block.gates(other, query, mask), block.gates(support, query, mask))


def test_gradients():
    block = CrossReferenceTransformer(4, num_heads=2, reduction=1).double()
    support, query, mask = inputs(1, 2, 4, (2, 2), (1, 3))
    support.requires_grad_(), query.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, q: block(s, q, mask), (support, query))


def test_products_that_leave_float16():
    block = CrossReferenceTransformer(256, num_heads=1)
    nn.init.constant_(block.support_qkv.weight, 0.5)
    nn.init.constant_(block.query_qkv.weight, 0.5)
    support, query = torch.ones(1, 1, 256, 2, 2), torch.ones(1, 256, 2, 2)
    with torch.autocast("cpu", dtype=torch.float16), torch.no_grad():
        q = block.query_qkv(query)[0, :256, 0, 0]
        assert torch.isfinite(q).all() and torch.isinf(q @ q)
        gates = block.gates(support, query, torch.ones(1, 1, 2, 2))
    expected = block.gates(support, query, torch.ones(1, 1, 2, 2))
    torch.testing.assert_close(gates.float(), expected, atol=0.01, rtol=0.01)


@pytest.mark.parametrize("num_heads", [0, 4, -1])
def test_heads_that_do_not_divide_the_channels_are_named(num_heads):
    with pytest.raises(XModalError, match=f"{num_heads} heads do not divide 6 channels: take a divisor of 6"):
        CrossReferenceTransformer(6, num_heads)


def test_feature_map_size_is_what_convolutions_put_out(count_conv_outputs):
    block, x = CrossReferenceTransformer(8), torch.randn(2, 8, 4, 5)
    counted = count_conv_outputs(block, F.relu(x)[:, None], x, torch.ones_like(x[:, :1]))
    assert block.compute_conv_feature_map_size([4, 5]) == counted
