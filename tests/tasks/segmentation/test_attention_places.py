"""Made maps whose places are known."""

import math

import pytest
import torch

from nnunet_xmodal.tasks.segmentation.attention_places import (
    attention_is_alive,
    corners_by_chance,
    correlation,
    mass_in,
    peaks_in_a_corner,
)


def peaking_at(size, *places):
    """One map per place, nearly one-hot."""
    maps = torch.zeros(len(places), *size)
    for one, place in zip(maps, places):
        one[place] = 20
    return maps.flatten(1).log_softmax(1).view(maps.shape)


def test_a_peak_is_in_a_corner_at_the_ends_of_all_axes():
    maps = peaking_at((4, 6), (0, 0), (0, 5), (3, 0), (3, 5), (0, 3), (2, 0), (1, 1))
    assert peaks_in_a_corner(maps).tolist() == [True] * 4 + [False] * 3
    volumes = peaking_at((3, 4, 5), (2, 0, 4), (2, 0, 2), (1, 1, 1))
    assert peaks_in_a_corner(volumes).tolist() == [True, False, False]


@pytest.mark.parametrize("size, corners", [((7,), 2), ((4, 6), 4), ((3, 4, 5), 8), ((1, 4, 5), 4)])
def test_chance_is_the_share_of_positions_that_are_corners(size, corners):
    everywhere = list(torch.ones(size).nonzero().unbind(0))
    maps = peaking_at(size, *(tuple(place.tolist()) for place in everywhere))
    assert peaks_in_a_corner(maps).sum() == corners
    assert corners_by_chance(torch.Size(size)) == pytest.approx(corners / math.prod(size))


def test_mass_in_the_foreground_is_1_for_a_uniform_map_and_the_inverse_of_its_share_for_a_map_inside():
    foreground = torch.zeros(2, 8, 8, dtype=torch.bool)
    foreground[:, 2:4, 2:4] = True  # one of 16 positions of the map
    uniform = torch.full((2, 4, 4), -math.log(16))
    torch.testing.assert_close(mass_in(uniform, foreground), torch.ones(2))
    inside_and_outside = peaking_at((4, 4), (1, 1), (0, 0))
    torch.testing.assert_close(mass_in(inside_and_outside, foreground), torch.tensor([16.0, 0.0]), atol=1e-3, rtol=0)


def test_mass_without_a_foreground_is_not_a_number():
    assert mass_in(torch.zeros(1, 4, 4), torch.zeros(1, 8, 8, dtype=torch.bool)).isnan().all()


def test_correlation_is_pearsons_per_sample():
    a, b = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    expected = [torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1] for x, y in zip(a, b)]
    torch.testing.assert_close(correlation(a, b), torch.stack(expected))
    torch.testing.assert_close(correlation(a, 3 - 2 * a), -torch.ones(3))
    assert correlation(a, torch.ones(3, 4, 5)).isnan().all()


START = {"correlation": 0.3}
GOOD = {
    "correlation": 0.5,
    "foreground_mass": [[1.1, 3.0], [1.2, 2.0]],
    "peaks_in_a_corner": [[0.0, 0.25], [0.0, 0.0]],
    "corners_by_chance": [0.01, 0.06],
}


def test_alive_is_more_correlation_and_mass_on_the_foreground_and_no_more_corners_than_by_chance():
    assert attention_is_alive(START, GOOD) is True
    assert attention_is_alive(START, GOOD | {"correlation": 0.3}) is False
    assert attention_is_alive(START, GOOD | {"foreground_mass": [[0.2, 0.9], [1.0, 4.0]]}) is False
    # collapsed: the same corner in both streams, a divergence of 0 and a correlation of 1
    collapsed = {"correlation": 1.0, "peaks_in_a_corner": [[1.0, 1.0], [1.0, 1.0]]}
    assert attention_is_alive(START, GOOD | collapsed) is False


@pytest.mark.parametrize(
    "start, end",
    [({}, GOOD), ({"correlation": None}, GOOD), (START, GOOD | {"foreground_mass": None})],
)
def test_not_known_without_a_start_or_a_foreground(start, end):
    assert attention_is_alive(start, end) is None
