import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.generator import Generator

WIDTHS = (4, 8, 12)
EVERY_PLAN = pytest.mark.parametrize("dimensions, residual", [(2, False), (2, True), (3, False), (3, True)])


@pytest.fixture
def architecture_of(make_unet_arguments):
    def make(dimensions=2, residual=False, **plans) -> dict:
        arguments = make_unet_arguments([[0], [1]], dimensions, residual, widths=WIDTHS, **plans)
        network_only = ("input_channels", "num_classes", "streams", "deep_supervision")
        return {key: value for key, value in arguments.items() if key not in network_only}

    return make


def stock_of(architecture, channels, classes, deep_supervision):
    family = ResidualEncoderUNet if "n_blocks_per_stage" in architecture else PlainConvUNet
    return family(channels, num_classes=classes, deep_supervision=deep_supervision, **architecture)


def n_parameters(network):
    return sum(p.numel() for p in network.parameters())


@EVERY_PLAN
@pytest.mark.parametrize("channels, outputs", [(1, 1), (2, 2), (1, 3)])
def test_an_image_of_the_inputs_size_with_the_target_streams_channels(
    architecture_of, dimensions, residual, channels, outputs
):
    network = Generator(channels, outputs, **architecture_of(dimensions, residual))
    size = (16, 8, 24)[:dimensions]
    assert network(torch.randn(2, channels, *size)).shape == (2, outputs, *size)


@EVERY_PLAN
def test_is_nnunets_own_network(architecture_of, dimensions, residual):
    architecture = architecture_of(dimensions, residual)
    generator, stock = Generator(2, 2, **architecture).eval(), stock_of(architecture, 2, 2, False).eval()
    stock.load_state_dict(generator.state_dict())
    x = torch.randn(1, 2, *(16,) * dimensions)
    assert torch.equal(generator(x), stock(x))


@EVERY_PLAN
@pytest.mark.parametrize("deep_supervision", [False, True])
def test_a_segmenter_differs_in_its_heads_alone(architecture_of, dimensions, residual, deep_supervision):
    architecture = architecture_of(dimensions, residual)
    generator, segmenter = Generator(1, 1, **architecture), stock_of(architecture, 1, 4, deep_supervision)
    expected = sum((4 - 1) * (width + 1) for width in WIDTHS[:-1])
    assert n_parameters(segmenter) - n_parameters(generator) == expected

    carried = {key: value for key, value in generator.state_dict().items() if ".seg_layers." not in key}
    result = segmenter.load_state_dict(carried, strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys and all(".seg_layers." in key for key in result.missing_keys)
    assert all(torch.equal(segmenter.state_dict()[key], value) for key, value in carried.items())


def test_output_is_linear(architecture_of):
    """Scaling the last layer scales the image, and turns its sign."""
    network, x = Generator(1, 1, **architecture_of()).eval(), torch.randn(1, 1, 16, 16)
    before = network(x)
    with torch.no_grad():
        network.decoder.seg_layers[-1].weight.mul_(-1e3)
        network.decoder.seg_layers[-1].bias.mul_(-1e3)
    torch.testing.assert_close(network(x), -1e3 * before, rtol=1e-4, atol=1e-2)


def test_every_parameter_that_wants_a_gradient_gets_one(architecture_of):
    """Otherwise DistributedDataParallel stops at the second step."""
    network = Generator(1, 1, **architecture_of())
    network(torch.randn(1, 1, 16, 16)).square().mean().backward()
    assert all((p.grad is not None) == p.requires_grad for p in network.parameters())
    assert not any(p.requires_grad for head in network.decoder.seg_layers[:-1] for p in head.parameters())


@EVERY_PLAN
def test_feature_map_size_counts_the_outputs_of_its_convolutions(
    architecture_of, count_conv_outputs, dimensions, residual
):
    network, size = Generator(2, 1, **architecture_of(dimensions, residual)), (16, 8, 24)[:dimensions]
    counted = count_conv_outputs(network, torch.randn(1, 2, *size))
    assert network.compute_conv_feature_map_size(list(size)) == counted


def test_initialisation_is_nnunets(architecture_of):
    architecture = architecture_of(residual=True)
    networks = [Generator(1, 1, **architecture), stock_of(architecture, 1, 1, False)]
    states = []
    for network in networks:
        torch.manual_seed(1)
        states.append(network.apply(network.initialize).state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_wrong_inputs_are_named(architecture_of):
    network = Generator(2, 1, **architecture_of())
    with pytest.raises(XModalError, match="trained on 2 input channels but got 1"):
        network(torch.randn(1, 1, 16, 16))
    with pytest.raises(XModalError, match=r"by \[4, 4\] and got \[18, 16\]"):
        network(torch.randn(1, 2, 18, 16))
