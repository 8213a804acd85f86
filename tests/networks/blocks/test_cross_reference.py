from functools import partial

import pytest
import torch

from nnunet_xmodal.networks.blocks.cross_reference import CrossReference
from nnunet_xmodal.networks.blocks.cross_reference_transformer import CrossReferenceTransformer

BLOCKS = {
    "CR": CrossReference,
    "CR + mask": partial(CrossReference, with_mask=True),
    "CRT": CrossReferenceTransformer,
    "CRT, 2 heads": partial(CrossReferenceTransformer, num_heads=2),
}


def inputs(batch=2, shots=3, channels=8, size=(4, 5), dtype=torch.float64):
    support = torch.randn(batch, shots, channels, *size, dtype=dtype)
    query = torch.randn(batch, channels, *size, dtype=dtype)
    return support, query, torch.rand(batch, shots, *size, dtype=dtype).round()


def gate_by_loop(gate, x):
    """The FC block of one vector."""
    first, _, second, _ = gate
    hidden = [max(0.0, float(row @ x + b)) for row, b in zip(first.weight, first.bias)]
    out = [sum(w * h for w, h in zip(row, hidden)) + b for row, b in zip(second.weight, second.bias)]
    return torch.stack([1 / (1 + torch.exp(-value)) for value in out])


@pytest.mark.parametrize("with_mask", [False, True])
def test_it_is_what_the_figure_draws_shot_by_shot(with_mask):
    block = CrossReference(8, reduction=4, with_mask=with_mask).double()
    support, query, mask = inputs()
    with torch.no_grad():
        new_support, new_query = block(support, query, mask)
        for b in range(2):
            products = []
            for s in range(3):
                f = support[b, s] * mask[b, s] if with_mask else support[b, s]
                ours = gate_by_loop(block.support_gate, f.flatten(1).mean(1))
                products.append(ours * gate_by_loop(block.query_gate, query[b].flatten(1).mean(1)))
                torch.testing.assert_close(new_support[b, s], support[b, s] * products[-1].view(-1, 1, 1))
            torch.testing.assert_close(new_query[b], query[b] * (sum(products) / 3).view(-1, 1, 1))


def test_parameters_at_the_papers_256_channels():
    fc = 256 * 16 + 16 + 16 * 256 + 256
    assert sum(p.numel() for p in CrossReference(256).parameters()) == 2 * fc == 16_928


def test_without_a_mask_it_does_not_look_at_it():
    block = CrossReference(8).double()
    support, query, mask = inputs()
    for a, b in zip(block(support, query, mask), block(support, query, 1 - mask)):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", BLOCKS)
class TestEveryBlock:
    def test_gates_are_between_0_and_1_and_shapes_stay(self, name):
        block = BLOCKS[name](8).double()
        support, query, mask = inputs()
        gates = block.gates(support, query, mask)
        assert gates.shape == (2, 3, 8) and (gates > 0).all() and (gates < 1).all()
        new_support, new_query = block(support, query, mask)
        assert new_support.shape == support.shape and new_query.shape == query.shape
        assert (new_support.abs() < support.abs()).all() and (new_query.abs() < query.abs()).all()

    def test_support_and_query_may_have_other_sizes(self, name):
        block = BLOCKS[name](8).double()
        support, _, mask = inputs()
        query = torch.randn(2, 8, 3, 7, dtype=torch.float64)
        assert [x.shape for x in block(support, query, mask)] == [support.shape, query.shape]

    def test_an_empty_mask_is_no_nan(self, name):
        block = BLOCKS[name](8).double()
        support, query, mask = inputs()
        for x in block(support, query, torch.zeros_like(mask)):
            assert torch.isfinite(x).all()

    def test_the_order_of_shots_is_that_of_the_support_and_changes_no_query(self, name):
        block = BLOCKS[name](8).double()
        support, query, mask = inputs()
        order = [2, 0, 1]
        new_support, new_query = block(support, query, mask)
        permuted_support, same_query = block(support[:, order], query, mask[:, order])
        torch.testing.assert_close(permuted_support, new_support[:, order])
        torch.testing.assert_close(same_query, new_query)

    def test_a_shot_that_does_not_exist_changes_no_query(self, name):
        block = BLOCKS[name](8).double()
        support, query, mask = inputs()
        exists = torch.tensor([[True, False, True], [False, True, False]])
        _, new_query = block(support, query, mask, exists)
        _, first = block(support[:1, [0, 2]], query[:1], mask[:1, [0, 2]])
        _, second = block(support[1:, [1]], query[1:], mask[1:, [1]])
        torch.testing.assert_close(new_query, torch.cat((first, second)))
        assert all(torch.isfinite(x).all() for x in block(support, query, mask, torch.zeros_like(exists)))

    def test_positions_may_be_permuted_in_either_image(self, name):
        """Averages and attention know no positions: what moves is moved in the output, and gates stay."""
        block = BLOCKS[name](8).double()
        support, query, mask = inputs()
        gates = block.gates(support, query, mask)
        torch.testing.assert_close(block.gates(support.flip(-1), query, mask.flip(-1)), gates)
        torch.testing.assert_close(block.gates(support, query.flip(-2), mask), gates)

    def test_every_parameter_gets_a_gradient(self, name):
        block = BLOCKS[name](32).double()
        sum(x.square().sum() for x in block(*inputs(channels=32))).backward()
        for key, parameter in block.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_large_activations_survive_autocast(self, name, dtype):
        block = BLOCKS[name](8)
        support, query, mask = inputs(dtype=torch.float32)
        with torch.autocast("cpu", dtype=dtype), torch.no_grad():
            for x in block(300 * support, 300 * query, mask):
                assert torch.isfinite(x).all()

    @pytest.mark.slow
    def test_compiles_without_a_graph_break(self, name):
        torch._dynamo.reset()
        block = BLOCKS[name](8)
        batch = inputs(dtype=torch.float32)
        compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
        for a, b in zip(compiled(*batch), block(*batch)):
            torch.testing.assert_close(a, b)
