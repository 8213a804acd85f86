from functools import partial

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from fast_ones import one_fast_in

from nnunet_xmodal import trainers
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.attention_gates import AttentionGates
from nnunet_xmodal.networks.blocks.folded_attention import FoldedAttention
from nnunet_xmodal.networks.blocks.spatial_correlation import SpatialCorrelatedFeatureFusion
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.unet_plan import check_patch_size

GROUPINGS = [
    [[0]],
    [[0, 1, 2]],
    [[0], [1]],
    [[0, 2], [1, 3]],
    [[2], [0, 1]],
    [[1], [0], [2]],
    [[3], [1], [0], [2]],
]
SHALLOW_OF = {dimensions: {"widths": (4, 8), "patch_size": (8,) * dimensions} for dimensions in (2, 3)}
SHALLOW = SHALLOW_OF[2]


def image(network, dimensions=2, batch=2, side=16):
    return torch.randn(batch, network.input_channels, *(side,) * dimensions)


def stock_of(arguments):
    family = ResidualEncoderUNet if "n_blocks_per_stage" in arguments else PlainConvUNet
    return family(**{key: value for key, value in arguments.items() if key != "streams"})


def n_parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_one_stream_is_nnunets_own_network(make_unet_arguments, dimensions, residual, deep_supervision):
    arguments = make_unet_arguments([[0, 1]], dimensions, residual, deep_supervision=deep_supervision)
    ours, stock = MultiStreamUNet(**arguments).eval(), stock_of(arguments).eval()
    assert n_parameters(ours) == n_parameters(stock)

    weights = {key.replace("encoder.streams.0.", "encoder."): value for key, value in ours.state_dict().items()}
    stock.load_state_dict(weights)
    x = image(ours, dimensions)
    outputs, expected = ours(x), stock(x)
    if not deep_supervision:
        outputs, expected = [outputs], [expected]
    assert len(outputs) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("streams", GROUPINGS, ids=str)
def test_any_grouping_gives_logits_of_the_input_size(make_unet_arguments, streams, dimensions, residual):
    network = MultiStreamUNet(**make_unet_arguments(streams, dimensions, residual, **SHALLOW_OF[dimensions]))
    x = image(network, dimensions, side=8)
    assert network(x).shape == (2, 3, *x.shape[2:])
    assert [encoder_width(encoder) for encoder in network.encoder.streams] == [len(stream) for stream in streams]


def encoder_width(encoder):
    return next(encoder.parameters()).shape[1]


@pytest.mark.parametrize("streams", GROUPINGS, ids=str)
def test_an_encoder_reads_its_own_channels_and_no_other(make_unet_arguments, streams):
    network = MultiStreamUNet(**make_unet_arguments(streams, **SHALLOW)).eval()
    x = image(network, side=8)
    before = network.encoder.stream_features(x)
    for channel in range(network.input_channels):
        perturbed = x.clone()
        perturbed[:, channel] += torch.randn(8, 8)
        after = network.encoder.stream_features(perturbed)
        changed = [not torch.equal(a[-1], b[-1]) for a, b in zip(before, after)]
        assert changed == [channel in stream for stream in streams]


def test_channels_of_a_cascade_go_to_every_stream(make_unet_arguments):
    network = MultiStreamUNet(**make_unet_arguments([[0], [2, 1]], extra_channels=2, **SHALLOW)).eval()
    assert network.encoder.stream_channels == [[0, 3, 4], [2, 1, 3, 4]]
    x = image(network, side=8)
    before = network.encoder.stream_features(x)
    x[:, 4] += torch.randn(8, 8)
    after = network.encoder.stream_features(x)
    assert not any(torch.equal(a[-1], b[-1]) for a, b in zip(before, after))


def test_ignored_channels_go_to_no_stream(make_unet_arguments):
    arguments = make_unet_arguments([[0], [1, 2]], extra_channels=1, **SHALLOW)
    network = MultiStreamUNet(**{**arguments, "streams": [[1, 2]]}, ignored_channels=[0]).eval()
    assert network.encoder.stream_channels == [[1, 2, 3]]
    x = image(network, side=8)
    before = network(x)
    x[:, 0] = 100
    assert torch.equal(network(x), before)


@pytest.mark.parametrize("streams", [[[0]], [[0], [1]], [[0], [1], [2]]], ids=len)
@pytest.mark.parametrize("reduce_skips", [True, False])
def test_widths_of_the_skips(make_unet_arguments, streams, reduce_skips):
    network = MultiStreamUNet(**make_unet_arguments(streams), reduce_skips=reduce_skips)
    factor = 1 if reduce_skips else len(streams)
    expected = [factor * width for width in (4, 8, 8)]
    skips = network.encoder(image(network))
    assert network.encoder.output_channels == expected == [skip.shape[1] for skip in skips]
    assert network(image(network)).shape == (2, 3, 16, 16)


def test_without_reduction_skips_are_the_concatenated_features(make_unet_arguments):
    network = MultiStreamUNet(**make_unet_arguments([[0], [1]]), reduce_skips=False).eval()
    x = image(network)
    a, b = network.encoder.stream_features(x)
    for skip, level_a, level_b in zip(network.encoder(x), a, b):
        assert torch.equal(skip, torch.cat((level_a, level_b), 1))


@pytest.mark.parametrize("reduce_skips", [True, False])
@pytest.mark.parametrize("n_streams", [2, 3])
def test_fusion_takes_the_place_of_concatenation_at_the_bottleneck(make_unet_arguments, n_streams, reduce_skips):
    arguments = make_unet_arguments([[index] for index in range(n_streams)])
    network = MultiStreamUNet(**arguments, reduce_skips=reduce_skips, fusion=SpatialCorrelatedFeatureFusion).eval()
    factor = 1 if reduce_skips else n_streams
    assert network.encoder.output_channels == [factor * 4, factor * 8, 8]
    x = image(network)
    bottlenecks = [stream[-1] for stream in network.encoder.stream_features(x)]
    assert torch.equal(network.encoder(x)[-1], network.encoder.fusion(bottlenecks))


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(
    "streams, blocks",
    one_fast_in(
        3,
        [
            ([[0, 1]], {}),
            ([[0], [1]], {}),
            ([[0], [1, 2]], {"reduce_skips": False}),
            ([[0], [1]], {"fusion": SpatialCorrelatedFeatureFusion}),
            ([[0], [1], [2]], {"fusion": SpatialCorrelatedFeatureFusion}),
            ([[0], [1], [2]], {"fusion": SpatialCorrelatedFeatureFusion, "reduce_skips": False}),
            ([[0], [1], [2], [3]], {"fusion": partial(SpatialCorrelatedFeatureFusion, softmax="all")}),
            ([[0, 1]], {"attention": AttentionGates}),
            ([[0, 1]], {"attention": trainers.nnUNetTrainerFA.attention()}),
            ([[0, 1]], {"attention": trainers.nnUNetTrainerRSA.attention()}),
            ([[0, 1]], {"attention": trainers.nnUNetTrainerSA.attention()}),
            ([[0, 1]], {"attention": trainers.nnUNetTrainerDualAttention.attention()}),
            ([[0], [1]], {"fusion": SpatialCorrelatedFeatureFusion, "attention": trainers.nnUNetTrainerFA.attention()}),
        ],
    ),
)
def test_feature_map_size_is_what_convolutions_put_out(
    make_unet_arguments, count_conv_outputs, streams, blocks, dimensions, residual, deep_supervision
):
    arguments = make_unet_arguments(streams, dimensions, residual, deep_supervision=deep_supervision, widths=(4, 8, 12))
    network = MultiStreamUNet(**arguments, **blocks)
    size = (16, 8, 24)[:dimensions]
    for module in network.modules():
        if isinstance(module, FoldedAttention):
            module.merged = False  # what plans are made for: the form of half precision, with three convolutions
    counted = count_conv_outputs(network, torch.randn(1, network.input_channels, *size))
    assert network.compute_conv_feature_map_size(list(size)) == counted


@pytest.mark.parametrize("n_streams", [1, 2, 3])
def test_feature_map_size_of_equal_widths_is_off_by_what_nnunets_own_is(
    make_unet_arguments, count_conv_outputs, n_streams
):
    """nnU-Net's residual encoder counts a convolution on skips that only pool, where a level keeps its width."""
    arguments = make_unet_arguments([[0]], residual=True, widths=(4, 8, 8))
    stock, size = stock_of(arguments), [16, 16]
    surplus = stock.compute_conv_feature_map_size(size) - count_conv_outputs(stock, torch.randn(1, 1, *size))
    arguments = make_unet_arguments([[index] for index in range(n_streams)], residual=True, widths=(4, 8, 8))
    network = MultiStreamUNet(**arguments)
    counted = count_conv_outputs(network, torch.randn(1, n_streams, *size))
    assert surplus == 8 * 4 * 4
    assert network.compute_conv_feature_map_size(size) - counted == n_streams * surplus


def test_check_patch_size():
    strides = [[1, 1], [2, 2], [2, 1]]
    check_patch_size([8, 6], strides)
    with pytest.raises(XModalError, match=r"3 levels, which divide the patch by \[4, 2\], but its size is \[6, 6\]"):
        check_patch_size([6, 6], strides)
    with pytest.raises(XModalError, match=r"3 levels, which leave a single position of the patch \[4, 2\]"):
        check_patch_size([4, 2], strides)
    check_patch_size([4, 4], strides)
    check_patch_size([8, 8], [1, 2, 2])


def test_too_many_levels_for_the_patch_are_found_before_building(make_unet_arguments):
    with pytest.raises(XModalError, match="take fewer levels or a larger patch"):
        make_unet_arguments([[0], [1]], widths=(4,) * 5)  # 16 → 1
    with pytest.raises(XModalError, match="take fewer levels or a patch size divisible"):
        make_unet_arguments([[0], [1]], widths=(4,) * 6)
