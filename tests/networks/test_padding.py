"""What surrounds a slice: only frames of zeros are taken for padding, and they become as dark as the slice."""

import pytest
import torch

from nnunet_xmodal.networks.padding import background_of, with_background


@pytest.mark.parametrize("rows, columns", [((0, 8), (0, 8)), ((2, 7), (0, 8)), ((0, 5), (3, 8)), ((1, 2), (4, 6))])
def test_a_frame_gets_the_darkest_value_of_its_channel(rows, columns):
    x = torch.zeros(2, 3, 8, 8)
    inside = (..., slice(*rows), slice(*columns))
    x[inside] = torch.randn(2, 3, rows[1] - rows[0], columns[1] - columns[0]) + 5 * torch.arange(3)[:, None, None]
    expected = x[inside].amin((2, 3), keepdim=True).expand_as(x).clone()
    expected[inside] = x[inside]
    assert torch.equal(with_background(x), expected)
    assert torch.equal(with_background(with_background(x)), expected)


def test_zeros_within_a_slice_and_in_one_channel_alone_stay():
    x = torch.randn(1, 2, 6, 6)
    x[:, :, 2] = 0
    x[:, 0, 0] = 0
    assert torch.equal(with_background(x), x)


def test_slices_know_nothing_of_each_other_and_empty_ones_stay_empty():
    x = torch.zeros(2, 1, 6, 6)
    x[1, :, 1:5, 2:4] = torch.randn(1, 4, 2) - 3
    filled = with_background(x)
    assert (filled[0] == 0).all() and (filled[1, 0, 0] == x[1].min()).all()


def test_the_background_of_an_array_is_the_same():
    x = torch.randn(3, 5, 4)
    assert (torch.from_numpy(background_of(x.numpy())) == x.amin((1, 2), keepdim=True)).all()


@pytest.mark.slow
def test_it_compiles_without_a_graph_break():
    x = torch.zeros(1, 1, 6, 6)
    x[..., 1:4, 2:] = torch.randn(3, 4)
    compiled = torch.compile(with_background, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), with_background(x))
