from functools import partial
from itertools import product

import pytest
import torch
from fast_ones import one_fast_in

from nnunet_xmodal.networks.blocks.at_most import at_most
from nnunet_xmodal.networks.blocks.spatial_correlation import SpatialCorrelatedFeatureFusion
from nnunet_xmodal.networks.late_fusion_unet import LateFusionUNet

GROUPINGS = [[[0], [1]], [[0, 2], [1]], [[2], [0], [1, 3]], [[3], [1], [0], [2]]]

build = partial(LateFusionUNet, fusion=SpatialCorrelatedFeatureFusion)


def image(network, dimensions=2):
    side = {2: 16, 3: 8}[dimensions]
    return torch.randn(2, network.input_channels, *(side,) * dimensions)


@pytest.mark.parametrize(
    "streams, dimensions, residual", one_fast_in(3, product(GROUPINGS, [2, 3], [False, True])), ids=str
)
def test_any_grouping_gives_logits_of_the_input_size(make_unet_arguments, streams, dimensions, residual):
    network = build(**make_unet_arguments(streams, dimensions, residual))
    x = image(network, dimensions)
    assert network(x).shape == (2, 3, *x.shape[2:])


def test_nothing_of_a_stream_meets_the_other_before_the_heads(make_unet_arguments):
    """With heads that read one stream only, and no SCFF, the other stream's channels do not matter."""
    network = build(**make_unet_arguments([[0], [1]], deep_supervision=True)).eval()
    with torch.no_grad():
        network.decoder.fusion.out.weight.zero_()
        for head in network.decoder.seg_layers:
            head.weight[:, head.in_channels // 2 :] = 0
    x = image(network)
    before = network(x)
    x[:, 1] += torch.randn(16, 16)
    assert all(torch.equal(a, b) for a, b in zip(before, network(x)))
    x[:, 0] += torch.randn(16, 16)
    assert not any(torch.equal(a, b) for a, b in zip(before, network(x)))


def test_scff_touches_the_full_resolution_only(make_unet_arguments):
    network = build(**make_unet_arguments([[0], [1]], deep_supervision=True)).eval()
    x = image(network)
    before = network(x)
    with torch.no_grad():
        network.decoder.fusion.out.weight.add_(1)
    after = network(x)
    assert not torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_channels_of_a_cascade_go_to_every_stream(make_unet_arguments):
    network = build(**make_unet_arguments([[0], [1]], extra_channels=2))
    assert network.encoder.stream_channels == [[0, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize(
    "streams, size, residual, deep_supervision",
    one_fast_in(5, product(GROUPINGS, [(16, 8), (48, 40), (8, 16, 12)], [False, True], [False, True])),
    ids=str,
)
def test_feature_map_size_is_what_convolutions_put_out(
    make_unet_arguments, count_conv_outputs, streams, size, residual, deep_supervision
):
    arguments = make_unet_arguments(streams, len(size), residual, deep_supervision=deep_supervision, widths=(4, 8, 12))
    network = build(**arguments)
    counted = count_conv_outputs(network, torch.randn(1, network.input_channels, *size))
    assert network.compute_conv_feature_map_size(list(size)) == counted


def test_feature_map_size_follows_the_switch_of_deep_supervision(make_unet_arguments):
    switched = build(**make_unet_arguments([[0], [1]], deep_supervision=True))
    switched.decoder.deep_supervision = False
    built = build(**make_unet_arguments([[0], [1]], deep_supervision=False))
    assert switched.compute_conv_feature_map_size([16, 16]) == built.compute_conv_feature_map_size([16, 16])


@pytest.mark.parametrize(
    "size", [(96, 80), (256, 256), (8, 512, 512), (2, 512, 512), (1, 5000), (128, 128, 128), (20, 20)]
)
def test_at_most_as_many_positions_and_no_side_longer_or_empty(size):
    pooled = at_most(size, 1024)
    assert torch.Size(pooled).numel() <= 1024
    assert all(1 <= small <= side for small, side in zip(pooled, size))


def test_at_most_keeps_proportions_and_small_sizes():
    assert at_most((96, 80), 1024) == (35, 29)
    assert at_most((32, 32), 1024) == (32, 32)
    assert at_most((20, 7), 1024) == (20, 7)
