import pytest
import torch
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.upsampled_spatial_map import upsampled_spatial_map

MODE = {1: "linear", 2: "bilinear", 3: "trilinear"}


@pytest.mark.parametrize(
    "sides, size",
    [
        ((5,), (10,)),
        ((4, 3), (8, 6)),
        ((4, 3), (8, 3)),  # an axis that keeps its size
        ((3, 4, 2), (6, 8, 4)),
        ((3, 4, 5), (3, 8, 10)),  # anisotropic strides
        ((4, 5), (13, 7)),  # no whole factor
        ((1, 3), (2, 6)),  # a single position
        ((3, 2), (12, 8)),
    ],
)
def test_equals_upsampling_then_summing_squares(sides, size):
    features = torch.randn(2, 7, *sides, dtype=torch.float64, requires_grad=True)
    upsampled = F.interpolate(features, size, mode=MODE[len(sides)], align_corners=False)
    expected = upsampled.square().sum(1)
    actual = upsampled_spatial_map(features, size)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)
    weight = torch.randn_like(expected)
    (expected_gradient,) = torch.autograd.grad(expected, features, weight)
    (gradient,) = torch.autograd.grad(actual, features, weight)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-10)


def test_gradcheck():
    features = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: upsampled_spatial_map(f, (4, 6)), features)
