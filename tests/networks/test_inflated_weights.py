"""2D weights as 3D ones, and first layers for other channels: what is answered stays the same."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.branches_unet import UNetBranch
from nnunet_xmodal.networks.inflated_weights import (
    Misfit,
    branch_state,
    for_channels,
    inflate_kernel,
    input_channels_of,
)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_a_kernel_is_repeated_and_divided(depth):
    flat = torch.randn(4, 3, 3, 3)
    weight = inflate_kernel(flat, (4, 3, depth, 3, 3))
    torch.testing.assert_close(weight.sum(2), flat)
    for z in range(depth):
        torch.testing.assert_close(weight[:, :, z], flat / depth)


def test_a_transposed_one_is_repeated_alone_because_its_repetitions_never_meet():
    flat = torch.randn(4, 3, 2, 2)
    weight = inflate_kernel(flat, (4, 3, 2, 2, 2), transposed=True)
    x = torch.randn(1, 4, 5, 6)
    solid = F.conv_transpose3d(x.unsqueeze(2).expand(-1, -1, 3, -1, -1), weight, stride=2)
    torch.testing.assert_close(solid[:, :, 3], F.conv_transpose2d(x, flat, stride=2))


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (8,), (4, 3, 3, 3, 3)])
def test_weights_of_the_same_shape_are_copied(shape):
    weight = torch.randn(shape)
    copy = inflate_kernel(weight, shape)
    assert torch.equal(copy, weight) and copy.data_ptr() != weight.data_ptr()


@pytest.mark.parametrize(
    "shape, wanted", [((4, 3, 3, 3), (8, 3, 3, 3, 3)), ((4, 3, 3, 3), (4, 3, 3, 1, 1)), ((8,), (4,))], ids=str
)
def test_other_shapes_are_told(shape, wanted):
    sides = "×".join(map(str, shape))
    with pytest.raises(Misfit, match=f"is {sides} in the checkpoint and {'×'.join(map(str, wanted))} in the network"):
        inflate_kernel(torch.zeros(shape), wanted)


def test_channels_of_their_own_are_selected():
    weight = torch.randn(4, 4, 3, 3)
    assert torch.equal(for_channels(weight, 2, [3, 0]), weight[:, [3, 0]])


@pytest.mark.parametrize("before, after", [(3, 1), (3, 2), (1, 2), (3, 5)])
def test_channels_of_another_kind_are_read_as_their_mean(before, after):
    weight, image = torch.randn(4, before, 3, 3), torch.randn(1, 1, 8, 8)
    expected = F.conv2d(image.repeat(1, before, 1, 1), weight)
    torch.testing.assert_close(F.conv2d(image.repeat(1, after, 1, 1), for_channels(weight, after, None)), expected)


@pytest.fixture
def branch(make_unet_arguments):
    """`(dimensions, residual, channels, …)` → a branch as CMFF builds it."""

    def make(dimensions, residual=False, channels=1, **plans):
        arguments = make_unet_arguments([list(range(channels))], dimensions, residual, **plans)
        architecture = {
            key: value
            for key, value in arguments.items()
            if key not in ("streams", "input_channels", "num_classes", "deep_supervision")
        }
        return UNetBranch(channels, 3, **architecture)

    return make


@pytest.mark.parametrize("residual", [False, True])
def test_an_image_that_does_not_change_along_the_depth_is_answered_as_before(branch, residual):
    """In the middle of a deep volume, and without norms, which would see the ends."""
    size = {2: (16, 16), 3: (64, 16, 16)}
    flat, solid = (branch(n, residual, 2, patch_size=size[n]).eval() for n in (2, 3))
    for network in (flat, solid):
        for module in network.modules():
            for name, child in module.named_children():
                if isinstance(child, nn.InstanceNorm2d | nn.InstanceNorm3d):
                    setattr(module, name, nn.Identity())
    solid.load_state_dict(branch_state(solid, flat.state_dict(), [0, 1]), strict=False)
    for network in (flat, solid):  # heads are not taken over
        network.decoder.seg_layers = nn.ModuleList(nn.Identity() for _ in network.decoder.seg_layers)
    x = torch.randn(1, 2, 16, 16)
    with torch.no_grad():
        expected, made = flat(x), solid(x.unsqueeze(2).repeat(1, 1, 64, 1, 1))
    torch.testing.assert_close(made[:, :, 32], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_weights_of_the_same_plan_are_copied_under_every_name(branch, dimensions, residual):
    first, second = branch(dimensions, residual), branch(dimensions, residual)
    assert input_channels_of(second, first.state_dict()) == 1
    state = branch_state(second, first.state_dict(), [0])
    names = {name for name in second.state_dict() if "seg_layers." not in name}
    assert set(state) == names
    assert all(torch.equal(state[name], first.state_dict()[name]) for name in names)


def test_what_is_missing_or_left_over_is_told(branch):
    network = branch(2)
    weights = network.state_dict()
    name = "encoder.stages.1.0.convs.0.conv.weight"
    less = {key: value for key, value in weights.items() if key != name}
    with pytest.raises(Misfit, match=f"{name} is missing in the checkpoint"):
        branch_state(network, less, [0])
    with pytest.raises(Misfit, match="encoder.more is in the checkpoint and not in the network"):
        branch_state(network, weights | {"encoder.more": torch.zeros(1)}, [0])
    with pytest.raises(Misfit, match="is missing in the checkpoint"):
        input_channels_of(network, {})
