import pytest
import torch
from torch import nn

from nnunet_xmodal.networks.blocks.cbam import CBAM

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZES = {1: (7,), 2: (4, 6), 3: (2, 4, 3)}


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_equations_one_to_four_sample_by_sample(dimensions):
    block = CBAM(CONVS[dimensions], 8, reduction=4)
    features = torch.randn(2, 8, *SIZES[dimensions])
    expected = torch.empty_like(features)
    for b, sample in enumerate(features):
        means = torch.stack([channel.mean() for channel in sample])
        maxima = torch.stack([channel.max() for channel in sample])
        of_channels = torch.sigmoid(block.mlp(means) + block.mlp(maxima))
        sample = torch.stack([weight * channel for weight, channel in zip(of_channels, sample)])
        pooled = torch.stack((sample.mean(0), sample.max(0).values))
        expected[b] = torch.sigmoid(block.conv(pooled[None])[0]) * sample
    torch.testing.assert_close(block(features), expected)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_it_only_ever_weakens_features(dimensions):
    features = torch.randn(2, 8, *SIZES[dimensions])
    output = CBAM(CONVS[dimensions], 8)(features)
    assert (output.abs() <= features.abs()).all() and torch.equal(output.sign(), features.sign())


def test_number_of_parameters():
    parameters = sum(p.numel() for p in CBAM(nn.Conv3d, 32).parameters())
    assert parameters == 32 * 2 + 2 + 2 * 32 + 32 + 2 * 7**3


@pytest.mark.parametrize("channels", [1, 4, 15])
def test_few_channels_leave_one_hidden_unit(channels):
    assert CBAM(nn.Conv2d, channels).mlp[0].out_features == 1


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_feature_map_size_is_what_convolutions_put_out(count_conv_outputs, dimensions):
    block, size = CBAM(CONVS[dimensions], 8), SIZES[dimensions]
    assert block.compute_conv_feature_map_size(size) == count_conv_outputs(block, torch.randn(1, 8, *size))
