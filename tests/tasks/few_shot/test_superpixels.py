"""Superpixels: they partition the foreground, none is small, and nothing but the image decides."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import felzenszwalb

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.few_shot.superpixels import (
    SuperpixelSettings,
    _borders,
    _without_small,
    felzenszwalb_superpixels,
    foreground_of,
    intensity_range,
    rescaled,
)

SIZE = 96
SETTINGS = SuperpixelSettings.for_patch((SIZE, SIZE))


def body(seed=0, channels=1, size=SIZE) -> np.ndarray:
    """Smooth random tissue in an ellipse, nearly black around it, z-scored: `(C, H, W)`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    inside = (y / 0.7) ** 2 + (x / 0.85) ** 2 < 1
    images = []
    for _ in range(channels):
        tissue = ndimage.gaussian_filter(rng.normal(size=(size, size)), 4)
        tissue = 0.6 + 0.12 * tissue / tissue.std()
        image = np.where(inside, tissue, 0.02) + rng.normal(scale=0.01, size=(size, size))
        images.append((image - image.mean()) / image.std())
    return np.stack(images).astype(np.float32)


def foreground(image, settings=SETTINGS):
    return foreground_of(rescaled(image, intensity_range(image)), settings.foreground)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_superpixels_partition_the_foreground_and_keep_their_bounds(seed, channels):
    image = body(seed, channels)
    labels = felzenszwalb_superpixels(image, SETTINGS)
    assert labels.shape == image.shape[1:] and labels.dtype == np.int32
    np.testing.assert_array_equal(labels > 0, foreground(image))
    sizes = np.bincount(labels.ravel())[1:]
    assert len(sizes) >= 10 and (sizes >= SETTINGS.min_size).all()
    assert sizes.max() < (labels > 0).sum() / 3  # many, not one and its crumbs


def test_the_numbers_count_from_one_without_a_gap_so_that_the_last_one_exists():
    for seed in range(4):
        labels = felzenszwalb_superpixels(body(seed), SETTINGS)
        np.testing.assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))


def test_equal_images_give_equal_maps_whatever_their_units_are():
    image = body()
    first = felzenszwalb_superpixels(image, SETTINGS)
    np.testing.assert_array_equal(first, felzenszwalb_superpixels(image.copy(), SETTINGS))
    np.testing.assert_array_equal(first, felzenszwalb_superpixels(image[0], SETTINGS))
    np.testing.assert_array_equal(first, felzenszwalb_superpixels(image.astype(np.float64) * 64 - 512, SETTINGS))


def test_inside_the_foreground_the_borders_are_scikit_images():
    """What is cut off at the edge goes to neighbours; two pixels apart in the map are apart in scikit-image's."""
    image = body(1)
    labels = felzenszwalb_superpixels(image, SETTINGS)
    whole = rescaled(image, intensity_range(image))[0] * (labels > 0)
    reference = felzenszwalb(whole, scale=1, sigma=0.8, min_size=SETTINGS.min_size)
    inner = ndimage.binary_erosion(labels > 0, iterations=6)
    across = inner[1:] & inner[:-1]
    split, expected = ((m[1:] != m[:-1])[across] for m in (labels, reference))
    assert expected[split].all()  # merging takes borders away and adds none
    assert split.sum() > 0.9 * expected.sum()


def test_two_halves_of_different_tissue_do_not_share_a_superpixel():
    image = np.full((64, 64), 0.4)
    image[:, 32:] = 0.9
    image[0] = 0
    labels = felzenszwalb_superpixels(image, SuperpixelSettings(min_size=50, sigma=0))
    assert not set(np.unique(labels[1:, :32])) & set(np.unique(labels[1:, 32:]))


def test_a_lesion_that_one_channel_shows_is_a_superpixel_of_both():
    images = np.full((2, 64, 64), 0.5)
    images[:, :4] = 0
    images[1, 20:40, 20:40] = 1
    labels = felzenszwalb_superpixels(images, SuperpixelSettings(min_size=100, sigma=0))
    assert len(np.unique(labels[20:40, 20:40])) == 1
    assert (labels == labels[30, 30]).sum() == 400


def test_the_foreground_is_the_largest_component_without_holes():
    image = np.zeros((1, 40, 40))
    image[0, 5:25, 5:25] = 0.8
    image[0, 10:14, 10:14] = 0  # gas
    image[0, 30:36, 30:36] = 1  # an arm
    expected = np.zeros((40, 40), bool)
    expected[5:25, 5:25] = True
    np.testing.assert_array_equal(foreground_of(image, 0.1), expected)


def test_slices_without_enough_foreground_have_no_superpixel():
    assert not felzenszwalb_superpixels(np.zeros((SIZE, SIZE)), SETTINGS).any()
    volume = np.stack((body()[0], np.full((SIZE, SIZE), body().min() + 0.01)))[None]
    dark = felzenszwalb_superpixels(volume[:, 1], SETTINGS, intensity_range(volume))
    assert not dark.any()
    speck = np.zeros((SIZE, SIZE))
    speck[3:8, 3:8] = 1
    assert not felzenszwalb_superpixels(speck, SETTINGS, np.array([[0, 1]])).any()
    assert felzenszwalb_superpixels(speck, SuperpixelSettings(min_size=25), np.array([[0, 1]])).sum() == 25


def test_merging_goes_to_the_longest_border_by_hand():
    labels = np.array([list(row) for row in ("111122", "113222", "113222", "114422", "112222")]).astype(int)
    pairs = [[0, 3, 3, 1], [3, 0, 2, 4], [3, 2, 0, 1], [1, 4, 1, 0]]  # that share a side, counted by eye
    np.testing.assert_array_equal(_borders(labels, 5)[1:, 1:], pairs)
    merged = np.array([list(row) for row in ("111122", "111222", "111222", "112222", "112222")]).astype(int)
    np.testing.assert_array_equal(_without_small(labels, 3), merged)


@pytest.mark.parametrize("size, expected", [((256, 256), 400), ((128, 128), 100), ((64, 64), 25), ((512, 256), 800)])
def test_the_smallest_size_keeps_its_share_of_the_patch(size, expected):
    assert SuperpixelSettings.for_patch(size).min_size == expected


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: felzenszwalb_superpixels(np.zeros((1, 2, 8, 8))), r"slice by slice, .* \(1, 2, 8, 8\)"),
        (lambda: felzenszwalb_superpixels(np.full((8, 8), np.nan)), "NaN or infinite"),
        (lambda: SuperpixelSettings(min_size=0), "at least 0 pixels"),
        (lambda: SuperpixelSettings(foreground=1.5), "threshold of the foreground is 1.5"),
    ],
)
def test_what_cannot_be_is_a_sentence(make, message):
    with pytest.raises(XModalError, match=message):
        make()
