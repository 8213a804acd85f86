"""Volumes and the direction of their field turn together: the field of a turned map is the turned field."""

import math

import pytest
import torch

from nnunet_xmodal.geometry.in_plane_rotation import rotated, rotated_direction, size_before_rotation
from nnunet_xmodal.physics.dipole import forward

ISOTROPIC = torch.tensor([[2.0, 1.0, 1.0]])


def blobs(size, spacing, centres, width=4.0):
    """Smooth, `(1, 1, D, H, W)`; centres and width in mm from the middle."""
    axes = [(torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * mm for side, mm in zip(size, spacing)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    total = torch.zeros(size, dtype=torch.float64)
    for weight, (cz, cy, cx) in centres:
        total += weight * torch.exp(-((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
    return total[None, None].float()


def test_an_angle_of_0_is_the_middle():
    volume = torch.randn(2, 3, 4, 12, 10)
    result = rotated(volume, torch.zeros(2), ISOTROPIC.expand(2, 3), (4, 8, 6))
    torch.testing.assert_close(result, volume[:, :, :, 2:10, 2:8], atol=1e-5, rtol=1e-5)


def test_a_quarter_turn_moves_voxels_from_y_to_x():
    volume = torch.randn(1, 1, 3, 8, 8)
    result = rotated(volume, torch.tensor([math.pi / 2]), ISOTROPIC, (3, 8, 8))
    torch.testing.assert_close(result, volume.transpose(3, 4).flip(3), atol=1e-4, rtol=1e-4)
    y = torch.tensor([[0.0, 1.0, 0.0]])
    torch.testing.assert_close(rotated_direction(y, torch.tensor([math.pi / 2])), torch.tensor([[0.0, 0.0, 1.0]]))


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (3.0, 1.5, 1.0)], ids=str)
@pytest.mark.parametrize("degrees", [15.0, -11.0, 40.0])
def test_a_point_goes_where_its_direction_goes(spacing, degrees):
    angle = torch.tensor([math.radians(degrees)])
    at = torch.tensor([[0.0, 7.0, -4.0]])
    to = rotated_direction(at, angle)  # linear: vectors of any length
    volume = blobs((6, 40, 48), spacing, [(1.0, at[0].tolist())])
    expected = blobs((6, 32, 40), spacing, [(1.0, to[0].tolist())])
    result = rotated(volume, angle, torch.tensor([spacing]), (6, 32, 40))
    assert (result - expected).abs().max() < 0.03  # of linear interpolation


@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0), (0.8, 0.6, 0.0), (0.6, -0.48, 0.64)], ids=str)
def test_the_field_of_a_turned_map_is_the_turned_field_in_the_turned_direction(direction):
    size, spacing, b = (24, 40, 40), (2.0, 1.5, 1.0), torch.tensor([direction])
    angle, mm = torch.tensor([math.radians(15.0)]), torch.tensor([spacing])
    chi = blobs(size, spacing, [(1.0, (1.0, 5.0, -3.0)), (-0.7, (-3.0, -6.0, 4.0))], width=3.0)
    of_turned = forward(rotated(chi, angle, mm, size), mm, rotated_direction(b, angle))
    turned = rotated(forward(chi, mm, b), angle, mm, size)
    middle = (slice(None), slice(None), slice(4, -4), slice(10, -10), slice(10, -10))
    error = (of_turned - turned)[middle].norm() / turned[middle].norm()
    assert error < 0.02
    if abs(direction[0]) < 1:  # with the direction left behind it is another field
        left_behind = forward(rotated(chi, angle, mm, size), mm, b)
        assert (left_behind - turned)[middle].norm() / turned[middle].norm() > 5 * error


@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_the_margin_leaves_no_corner_empty(ratio):
    size = (2, 20, 12)
    loaded = size_before_rotation(size, 15.0, ratio)
    assert all((big - small) % 2 == 0 for big, small in zip(loaded, size)) and loaded[0] == 2
    for degrees in (-15.0, 15.0):
        for spacing in ((1.0, ratio, 1.0), (1.0, 1.0, ratio)):
            turned = rotated(torch.ones(1, 1, *loaded), torch.tensor([math.radians(degrees)]),
                             torch.tensor([spacing]), size)  # fmt: skip
            assert turned.min() > 0.999
    assert size_before_rotation(size, 0.0) == list(size)


@pytest.mark.parametrize("size", [(2, 64, 16), (2, 16, 64), (2, 64, 32)], ids=str)
def test_the_margin_of_a_long_patch_is_that_of_the_angle_at_which_it_reaches_farthest(size):
    loaded = size_before_rotation(size, 45.0)
    for degrees in range(-45, 46):
        turned = rotated(torch.ones(1, 1, *loaded), torch.tensor([math.radians(degrees)]), torch.ones(1, 3), size)
        assert turned.min() > 0.999, degrees
