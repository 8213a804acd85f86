"""Convolutions that take another way to the same sums, beside torch's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.interleaved_dilation import InterleavedDepthwise, interleaved
from nnunet_xmodal.networks.blocks.masked_convolution import masked_convolution, neighbour_products


@pytest.mark.parametrize("kernel, dilation, size", [(3, 2, (8, 6)), (5, 2, (7, 9)), (3, 3, (4, 11)), (5, 4, (3, 2))])
def test_dilation_on_interleaved_positions_is_dilation(kernel, dilation, size):
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(4, 4, kernel, padding=padding, dilation=dilation, groups=4)
    x = torch.randn(2, 4, *size, requires_grad=True)
    expected = conv(x)
    gradients = torch.autograd.grad(expected.square().sum(), (x, *conv.parameters()))
    own = interleaved(conv)
    assert isinstance(own, InterleavedDepthwise) and own.weight is conv.weight
    assert own.state_dict().keys() == conv.state_dict().keys()
    found = own(x)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(torch.autograd.grad(found.square().sum(), (x, *own.parameters())), gradients):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(own(x), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"groups": 4, "padding": 1},  # no dilation
        {"groups": 2, "padding": 2, "dilation": 2},  # no depthwise convolution
        {"groups": 4, "padding": 2, "dilation": 2, "stride": 2},
        {"groups": 4, "padding": 0, "dilation": 2},
        {"groups": 4, "padding": 2, "dilation": (2, 1)},
        {"groups": 4, "padding": 2, "dilation": 2, "padding_mode": "reflect"},
    ],
)
def test_what_is_no_dilated_depthwise_convolution_stays(settings):
    conv = nn.Conv2d(4, 4, 3, **settings)
    assert interleaved(conv) is conv


@pytest.mark.parametrize("shown", [0.0, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("size", [(5, 7), (1, 3)])
def test_masks_of_one_image_share_its_products(shown, size):
    x = torch.randn(2, 3, *size, requires_grad=True)
    kernels = torch.randn(2, 4, 3, 3, 3, requires_grad=True)  # of what is shown, of what is hidden
    image = torch.tensor([1, 0, 1])
    mask = (torch.rand(3, *size) < shown).float()
    mask[2] *= torch.rand(size)  # soft, as what is reduced to a coarser map
    found = masked_convolution(neighbour_products(x, *kernels), mask, image)
    expected = [F.conv2d(x[image] * y[:, None], kernel, padding=1) for y, kernel in zip((mask, 1 - mask), kernels)]
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    ours, theirs = (
        torch.autograd.grad(sum(part.square().sum() for part in parts), (x, kernels)) for parts in (found, expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shown, rows", [(0, 0), (1, 1), (31, 31), (33, 31), (63, 1), (64, 0)])
def test_a_mask_costs_what_it_shows_or_hides(shown, rows, monkeypatch):
    products = neighbour_products(torch.randn(1, 2, 8, 8), *torch.randn(2, 2, 2, 3, 3))
    mask = (torch.arange(64) < shown).float().view(1, 8, 8)
    added = []
    index_add = torch.Tensor.index_add
    monkeypatch.setattr(torch.Tensor, "index_add", lambda *args: added.append(len(args[3])) or index_add(*args))
    masked_convolution(products, mask)
    assert added == [9 * rows]


def test_where_there_are_no_values_all_positions_are_counted():
    """FLOPs are counted on the device "meta"."""
    x, kernels = torch.empty(2, 3, 8, 8, device="meta"), torch.empty(2, 4, 3, 3, 3, device="meta")
    found = masked_convolution(neighbour_products(x, *kernels), torch.empty(2, 8, 8, device="meta"))
    assert [part.shape for part in found] == [(2, 4, 8, 8)] * 2
