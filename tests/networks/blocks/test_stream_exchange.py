"""Blocks that streams pass before they are fused: gates, and SCFF's correlation on several levels."""

from functools import partial
from itertools import product

import pytest
import torch
from torch import nn

from nnunet_xmodal.networks.blocks.spatial_correlation_exchange import SpatialCorrelationExchange
from nnunet_xmodal.networks.blocks.stream_gates import StreamGates
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet

WIDTHS = (4, 6, 8)
CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
EXCHANGES = [StreamGates, SpatialCorrelationExchange, partial(SpatialCorrelationExchange, max_positions=6)]


def features_of(n_streams, dimensions=2, batch=2):
    return [
        [
            torch.randn(batch, width, *(8 >> level,) * dimensions, dtype=torch.float64)
            for level, width in enumerate(WIDTHS)
        ]
        for _ in range(n_streams)
    ]


def shapes(features):
    return [[level.shape for level in stream] for stream in features]


@pytest.mark.parametrize("n_streams", [2, 3])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_shapes_stay(exchange, dimensions, n_streams):
    block = exchange(CONVOLUTIONS[dimensions], WIDTHS, n_streams).double()
    features = features_of(n_streams, dimensions)
    assert shapes(block(features)) == shapes(features)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_all_present_is_as_if_nothing_was_said(exchange):
    block, features = exchange(nn.Conv2d, WIDTHS, 2).double(), features_of(2)
    if isinstance(block, StreamGates):
        nn.init.ones_(block.gain)
    present = torch.ones(2, 2, dtype=torch.bool)
    for stream, other in zip(block(features), block(features, present)):
        for a, b in zip(stream, other):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_an_absent_stream_stays_0_and_says_nothing(exchange):
    block = exchange(nn.Conv2d, WIDTHS, 3).double()
    if isinstance(block, StreamGates):
        nn.init.ones_(block.gain)
    subsets = [subset for subset in product((True, False), repeat=3) if any(subset)]
    present, features = torch.tensor(subsets), features_of(3, batch=len(subsets))
    for k, stream in enumerate(features):
        for level in stream:
            level[~present[:, k]] = 0
    passed = block(features, present)
    for k, stream in enumerate(passed):
        for before, level in zip(features[k], stream):
            assert torch.isfinite(level).all() and (level[~present[:, k]] == 0).all()
            alone = torch.tensor([sum(subset) == 1 and subset[k] for subset in subsets])
            if isinstance(block, StreamGates):
                torch.testing.assert_close(level[alone], before[alone])  # its gate is 1
            else:
                assert level[present[:, k]].abs().sum() > 0


def test_gates_begin_at_1_and_have_a_mean_of_1():
    block, features = StreamGates(nn.Conv2d, WIDTHS, 3).double(), features_of(3)
    assert all(torch.equal(a, b) for x, y in zip(block(features), features) for a, b in zip(x, y))
    nn.init.constant_(block.gain, 5)
    for level, passed in zip(zip(*features), zip(*block(features))):
        gates = torch.stack([(b / a)[:, 0] for a, b in zip(level, passed)])
        assert (gates >= 0).all() and gates.std() > 0.01
        torch.testing.assert_close(gates.mean(0), torch.ones_like(gates[0]))


@pytest.mark.parametrize("levels", [1, 2, 3, 9])
def test_the_exchange_adds_on_the_coarsest_levels_what_a_loop_adds(levels):
    block, features = SpatialCorrelationExchange(nn.Conv2d, WIDTHS, 2, levels).double(), features_of(2)
    passed = block(features)
    first = max(0, 3 - levels)
    for level in range(first):
        assert all(torch.equal(passed[k][level], features[k][level]) for k in range(2))
    for index, level in enumerate(range(first, 3)):
        for k in range(2):
            mine, other = (block.general[index](features[s][level]).flatten(2) for s in (k, 1 - k))
            seen = torch.zeros_like(mine)
            for sample in range(2):
                for j in range(mine.shape[2]):
                    logits = (other[sample] * mine[sample, :, j, None]).sum(0) / mine.shape[1] ** 0.5
                    seen[sample, :, j] = (other[sample] * logits.softmax(0)).sum(1)
            expected = features[k][level] + block.back[index](seen.view(2, -1, *features[k][level].shape[2:]))
            torch.testing.assert_close(passed[k][level], expected, rtol=0, atol=1e-10)


def test_many_positions_look_at_pooled_ones():
    block = SpatialCorrelationExchange(nn.Conv2d, WIDTHS, 2, 3, max_positions=16).double()
    features = features_of(2)
    mine, other = (block.general[0](stream[0]) for stream in features)
    pooled = nn.functional.avg_pool2d(other, 2).flatten(2)
    weights = torch.einsum("bci,bcj->bij", pooled, mine.flatten(2)).div(mine.shape[1] ** 0.5).softmax(1)
    message = torch.einsum("bci,bij->bcj", pooled, weights).view(mine.shape)
    torch.testing.assert_close(block(features)[0][0], features[0][0] + block.back[0](message))


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_in_a_network_every_parameter_learns_and_its_convolutions_are_counted(
    make_unet_arguments, count_conv_outputs, exchange
):
    network = MultiStreamUNet(**make_unet_arguments([[0], [1]]), exchange=exchange)
    x = torch.randn(1, 2, 16, 16)
    network(x).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    assert network.compute_conv_feature_map_size([16, 16]) == count_conv_outputs(network, x)
