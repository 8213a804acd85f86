import pytest
import torch
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.patch_discriminator import PatchDiscriminator

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def convolutions(network):
    return [module for module in network.modules() if isinstance(module, tuple(CONV.values()))]


def sizes_by_meta(network, shape):
    """The output sizes of every convolution, without computing one."""
    network, sizes = network.to("meta"), []
    for module in convolutions(network):
        module.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
    network(torch.empty(shape, device="meta"))
    return sizes


@pytest.mark.parametrize("channels, parameters", [(1, 697_585), (2, 698_609)])
def test_parameters_of_the_paper(channels, parameters):
    network = PatchDiscriminator(nn.Conv3d, channels, (128, 128, 128))
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_layers_of_table_1():
    network = PatchDiscriminator(nn.Conv3d, 1, (128, 128, 128))
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["Conv3d", "LeakyReLU"] + 3 * ["Conv3d", "InstanceNorm3d", "LeakyReLU"] + ["Conv3d"]
    assert [layer.kernel_size for layer in convolutions(network)] == 5 * [(4, 4, 4)]
    assert [layer.stride for layer in convolutions(network)] == 4 * [(2, 2, 2)] + [(1, 1, 1)]
    widths = [(16, 64), (32, 32), (64, 16), (128, 8), (1, 7)]
    expected = [(width, side, side, side) for width, side in widths]
    assert sizes_by_meta(network, (1, 1, 128, 128, 128)) == expected


@pytest.mark.parametrize(
    "patch, sizes",
    [
        ((64, 64), [(32, 32), (16, 16), (8, 8), (4, 4), (3, 3)]),
        ((16, 16), [(8, 8), (4, 4), (3, 3)]),
        ((7, 7), [(7, 7), (6, 6)]),
        ((20, 128, 128), [(10, 64, 64), (5, 32, 32), (5, 16, 16), (5, 8, 8), (4, 7, 7)]),
        ((3, 32, 32), [(3, 16, 16), (3, 8, 8), (3, 4, 4), (3, 3, 3)]),
        ((1, 16, 9), [(1, 8, 4), (1, 4, 4), (1, 3, 3)]),
    ],
    ids=str,
)
def test_levels_of_smaller_and_flatter_patches(patch, sizes):
    network = PatchDiscriminator(CONV[len(patch)], 1, patch)
    assert [size[1:] for size in sizes_by_meta(network, (1, 1, *patch))] == sizes


@pytest.mark.parametrize(
    "patch",
    [(1,), (37,), (1, 1), (2, 3), (4, 4), (8, 8), (15, 9), (1, 64), (48, 40), (96, 80)]
    + [(1, 1, 1), (4, 4, 4), (8, 8, 8), (1, 40, 40), (5, 7, 33), (64, 2, 2), (16, 24, 32)],
    ids=str,
)
@pytest.mark.parametrize("training", [False, True])
def test_no_patch_is_too_small_for_a_step_with_batch_1(patch, training):
    network = PatchDiscriminator(CONV[len(patch)], 2, patch).train(training)
    x = torch.randn(1, 2, *patch, requires_grad=True)
    verdicts = network(x)
    assert verdicts.shape[:2] == (1, 1)
    verdicts.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    assert x.grad.abs().sum() > 0


def test_verdicts_tell_samples_apart_one_by_one():
    network = PatchDiscriminator(nn.Conv2d, 1, (32, 32))
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]))


def test_patches_of_another_dimension_are_named():
    with pytest.raises(XModalError, match=r"of Conv3d needs a patch of 3 sides.*got \[64, 64\]"):
        PatchDiscriminator(nn.Conv3d, 1, (64, 64))
    with pytest.raises(XModalError, match=r"at least one voxel, and got \[0, 64\]"):
        PatchDiscriminator(nn.Conv2d, 1, (0, 64))
