"""What a network keeps of its support between two answers, and when it looks again."""

import copy
import pickle
from functools import partial

import pytest
import torch
from prototype_networks import (
    SIZE,
    block_mask,
    episode_of,
    filled,
    network_of,
    query_of,
)
from torch import nn


def test_it_pickles_and_copies_without_what_it_has_kept():
    network = filled(network_of()).eval()
    x = query_of(network)
    with torch.inference_mode():
        expected = network(x)
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        seen = other.backbone.images
        assert torch.equal(other(x), expected)
        assert other.backbone.images == seen + 6 + len(x)


class TestWhatIsKept:
    """Six support images, looked at once for as long as nothing changes."""

    @staticmethod
    def counted(network, x):
        before = network.backbone.images
        with torch.no_grad():
            out = network(x)
        assert torch.equal(out, copy.deepcopy(network)(x))
        return network.backbone.images - before - len(x)

    def test_a_second_answer_costs_the_query_alone(self):
        network = filled(network_of()).eval()
        x = query_of(network)
        assert [self.counted(network, x), self.counted(network, x)] == [6, 0]
        network.to("cpu").eval()
        network.load_state_dict(network.state_dict())  # as nnU-Net does before every case
        assert self.counted(network, x) == 0

    def test_a_step_a_state_a_device_and_a_support_are_noticed(self):
        network = filled(network_of()).eval()
        x, state = query_of(network), copy.deepcopy(network.state_dict())

        def step():
            network.train()
            optimizer = torch.optim.SGD(network.parameters(), 0.1)
            network(*episode_of(network))[0].square().mean().backward()
            optimizer.step()
            network.eval()

        def change_in_place():
            with torch.no_grad():
                network.backbone.conv.weight.mul_(2)

        changes = [
            step,
            change_in_place,
            partial(network.load_state_dict, state),
            partial(network.backbone.load_state_dict, network.backbone.state_dict()),
            network.double,
            nn.Sequential(network).float,
            partial(network.set_support, 1, 1, 0, torch.randn(1, *SIZE), block_mask(0, 0)),
            network.clear_support,
        ]
        self.counted(network, x)
        for change in changes:
            change()
            dtype = network.support.images.dtype
            assert [self.counted(network, x.to(dtype)), self.counted(network, x.to(dtype))] == [6, 0], change

    def test_in_training_nothing_is_kept(self):
        network = filled(network_of())
        x = query_of(network)
        before = network.backbone.images
        network(x), network(x)
        assert network.backbone.images == before + 2 * (6 + len(x))

    def test_what_inference_mode_kept_serves_a_backward_pass(self):
        network = filled(network_of()).eval()
        x = query_of(network)
        with torch.inference_mode():
            expected = network(x)
        before = network.backbone.images
        out = network(x)
        out.sum().backward()
        assert torch.equal(out, expected) and network.backbone.images == before + len(x)
        assert network.cross_reference.support_qkv.weight.grad.abs().sum() > 0

    def test_autocast_leaves_nothing_of_lower_precision_behind(self):
        network = filled(network_of()).eval()
        x = query_of(network)
        expected = copy.deepcopy(network)(x)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            half = network(x)
        assert torch.isfinite(half).all() and not torch.equal(half, expected)
        assert torch.equal(network(x), expected)


@pytest.mark.slow
@pytest.mark.parametrize("inference", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", [pytest.param("PANet", marks=pytest.mark.slow), "CRTPNet"])
def test_an_answer_compiles_without_a_graph_break_and_notices_a_training(method, inference):
    torch._dynamo.reset()
    network = filled(network_of(method)).eval()
    x = query_of(network)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        with torch.inference_mode() if inference else torch.no_grad():
            for _ in range(2):
                torch.testing.assert_close(compiled(x), copy.deepcopy(network)(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(network(x), copy.deepcopy(network)(x), rtol=1e-4, atol=1e-4)
        compiled.train()
        with torch.no_grad():
            network.backbone.conv.weight.mul_(-2)
            network.backbone.norm.bias.add_(1)
        compiled.eval()


@pytest.mark.slow
def test_a_compiled_answer_looks_at_the_support_once():
    torch._dynamo.reset()
    network = filled(network_of("ALPNet")).eval()
    x, seen = query_of(network), []

    def noted(graph, inputs):
        seen.append(sum("conv2d" in str(node.target) for node in graph.graph.nodes))
        return graph.forward

    compiled = torch.compile(network, fullgraph=True, backend=noted)
    with torch.no_grad():
        for _ in range(3):
            compiled(x)
    assert seen == [2, 1]
