"""Transforms of episodes: where pixels go, that image and mask go together, and what a gamma curve keeps."""

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from nnunet_xmodal.tasks.few_shot.episode_transforms import (
    EpisodeTransform,
    affine_matrix,
    resampled,
    source_coordinates,
    unchanged,
    with_gamma,
)

NOTHING = {"rotation": (0, 0), "shift": (0, 0), "shear": (0, 0), "scale": (1, 1), "alpha": 0, "gamma": (1, 1)}
SIZE = 65


def disk(y, x, radius=6, size=SIZE):
    rows, columns = np.mgrid[:size, :size]
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).astype(np.uint8)


def drawn(mask, **ranges):
    return EpisodeTransform(**{**NOTHING, **ranges})(mask[None].astype(np.float32), mask)


def test_without_ranges_nothing_changes():
    image, mask = np.random.default_rng(0).normal(size=(2, 24, 31)).astype(np.float32), disk(5, 5, size=31)[:24]
    same, same_mask = EpisodeTransform(**NOTHING)(image, mask)
    np.testing.assert_allclose(same, image, atol=1e-6)
    np.testing.assert_array_equal(same_mask, mask)
    assert same.dtype == image.dtype and same_mask.dtype == mask.dtype
    assert unchanged(image, mask)[0] is image and unchanged(image, mask)[1] is mask


@pytest.mark.parametrize(
    "ranges, place",
    [
        ({"rotation": (90, 90)}, (32 + 20, 32)),  # from the right of the centre to below it
        ({"rotation": (-30, -30)}, (32 - 10, 32 + 20 * np.cos(np.pi / 6))),
        ({"scale": (0.5, 0.5)}, (32, 42)),
        ({"scale": (1.2, 1.2)}, (32, 56)),
        ({"shift": (5, 5)}, (37, 57)),
        ({"shear": (45, 45)}, (32, 52)),  # along x, by y
    ],
    ids=str,
)
def test_a_disk_goes_where_it_should(ranges, place):
    image, mask = drawn(disk(32, 52), **ranges)
    np.testing.assert_allclose(center_of_mass(mask), place, atol=0.3)
    np.testing.assert_allclose(center_of_mass(image[0]), place, atol=0.3)


def test_the_area_grows_with_the_square_of_the_scale():
    for scale in (0.5, 0.9, 1.2):
        _, mask = drawn(disk(32, 32, 20), scale=(scale, scale), rotation=(20, 20), shear=(15, 15))
        assert mask.sum() == pytest.approx(scale**2 * disk(32, 32, 20).sum(), rel=0.02)


def test_image_and_mask_move_together_under_everything():
    np.random.seed(0)
    for _ in range(10):
        mask = disk(25, 40, 12)
        image, moved = EpisodeTransform(alpha=60.0, gamma=(1, 1))(mask[None].astype(np.float32), mask)
        agreement = (image[0] > 0.5) == moved.astype(bool)
        assert agreement.mean() > 0.995 and set(np.unique(moved)) == {0, 1}


def test_the_elastic_map_bends_by_fractions_of_a_pixel_and_not_everywhere_alike():
    """Uniform noise has the standard deviation 1/√3; a Gaussian of σ leaves 1/(2√π·σ) of it."""
    np.random.seed(0)
    ramp = np.tile(np.arange(200, dtype=np.float32), (200, 1))
    transform = EpisodeTransform(**{**NOTHING, "alpha": 10.0})
    moved = np.stack([transform(ramp[None], np.zeros((200, 200), np.uint8))[0][0] - ramp for _ in range(4)])
    inner = moved[:, 20:-20, 20:-20]
    assert inner.std() == pytest.approx(10 / np.sqrt(3) / (2 * np.sqrt(np.pi) * 5), rel=0.1)


def test_beyond_the_border_the_image_goes_on_and_the_mask_does_not():
    image, mask = drawn(np.ones((20, 20), np.uint8), scale=(0.5, 0.5))
    assert image.min() == pytest.approx(1) and mask.sum() == pytest.approx(100, rel=0.25)


def test_coordinates_against_a_loop():
    matrix, shift = affine_matrix(25, -10, 1.1), (2.0, -3.0)
    found = source_coordinates((7, 9), matrix, shift)
    centre = np.array([3.0, 4.0])
    for y in range(7):
        for x in range(9):
            source = found[:, y, x]
            np.testing.assert_allclose(matrix @ (source - centre) + centre + shift, (y, x), atol=1e-10)


def test_resampling_by_half_a_pixel_takes_the_mean_of_neighbours():
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    moved, _ = resampled(image, image[0].astype(np.uint8), source_coordinates((3, 4), np.eye(2), (0, 0.5)))
    np.testing.assert_allclose(moved[0, :, 1:], (image[0, :, 1:] + image[0, :, :-1]) / 2)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 1.5])
def test_gamma_keeps_ends_and_order_in_every_channel(gamma):
    image = np.random.default_rng(1).normal(3, (2, 5), size=(16, 16, 2)).astype(np.float32).transpose(2, 0, 1)
    curved = with_gamma(image, gamma)
    assert curved.dtype == np.float32
    for before, after in zip(image, curved):
        np.testing.assert_allclose([after.min(), after.max()], [before.min(), before.max()], rtol=1e-5)
        order = before.ravel().argsort()
        assert (np.diff(after.ravel()[order]) >= -1e-5).all()
        middle = (before.max() + before.min()) / 2
        close = np.abs(before - middle).argmin()
        relative = (after.ravel()[close] - before.min()) / np.ptp(before)
        assert relative == pytest.approx(0.5**gamma, abs=0.05)


def test_an_image_without_contrast_stays():
    np.testing.assert_array_equal(with_gamma(np.full((1, 4, 4), -2.0, np.float32), 0.7), np.full((1, 4, 4), -2.0))


def test_draws_stay_in_their_ranges_and_follow_numpys_generator():
    image, mask = np.random.default_rng(0).normal(size=(1, 32, 32)).astype(np.float32), disk(16, 16, 5, 32)
    np.random.seed(3)
    first = EpisodeTransform()(image, mask)
    second = EpisodeTransform()(image, mask)
    np.random.seed(3)
    again = EpisodeTransform()(image, mask)
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], second[0])
    centres = [center_of_mass(EpisodeTransform()(image, mask)[1]) for _ in range(200)]
    reach = np.abs(np.array(centres) - 16).max()
    assert 4 < reach < 6.5
