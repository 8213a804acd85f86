"""Phantoms: reproducible, and only both channels together tell lesions from decoys."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as components

from nnunet_xmodal.phantoms.two_channel import SHAPE, phantom_case

SEEDS = range(12)


@pytest.fixture(scope="module")
def phantoms():
    return [phantom_case(np.random.default_rng(seed)) for seed in SEEDS]


def _relative(phantom):
    """Each channel with less noise, divided by the intensity of its organ, which fills a quarter of it."""
    smooth = gaussian_filter(phantom.images, (0, 0.35, 0.7, 0.7))
    return smooth / np.quantile(smooth, 0.85, axis=(1, 2, 3), keepdims=True)


def _best_threshold_accuracy(positive, negative):
    """Balanced accuracy of the best rule "positive is darker than t"."""
    thresholds = np.quantile(np.concatenate([positive, negative]), np.linspace(0, 1, 201))
    return max(((positive < t).mean() + (negative >= t).mean()) / 2 for t in thresholds)


def test_shapes_types_and_labels(phantoms):
    for phantom in phantoms:
        assert phantom.images.shape == (2, *SHAPE) and phantom.images.dtype == np.float32
        assert phantom.label.shape == SHAPE and phantom.label.dtype == np.uint8
        assert set(np.unique(phantom.label)) == {0, 1}
        assert (phantom.images > 0).all() and np.isfinite(phantom.images).all()


def test_lesions_are_dark_in_both_channels_and_decoys_in_one(phantoms):
    for phantom in phantoms:
        t2w, adc = phantom.dark
        np.testing.assert_array_equal(phantom.label == 1, t2w & adc)
        for decoys in (t2w & ~adc, adc & ~t2w):
            assert decoys.any()
        blobs, count = components(t2w | adc)
        image = _relative(phantom)
        for voxels in (blobs == blob for blob in range(1, count + 1)):
            for channel in range(2):
                darkness = 1 - np.median(image[channel][voxels])
                assert (darkness > 0.12) == phantom.dark[channel][voxels].any()


@pytest.mark.parametrize("channel", [0, 1])
def test_no_threshold_on_one_channel_tells_lesions_from_its_decoys(phantoms, channel):
    lesions, decoys = [], []
    for phantom in phantoms:
        image = _relative(phantom)[channel]
        lesions.append(image[phantom.label == 1])
        decoys.append(image[phantom.dark[channel] & (phantom.label == 0)])
    assert _best_threshold_accuracy(np.concatenate(lesions), np.concatenate(decoys)) < 0.6


def test_both_channels_together_tell_lesions_from_decoys(phantoms):
    lesions, decoys = [], []
    for phantom in phantoms:
        brighter = _relative(phantom).max(0)  # dark only where both are
        lesions.append(brighter[phantom.label == 1])
        decoys.append(brighter[phantom.dark.any(0) & (phantom.label == 0)])
    assert _best_threshold_accuracy(np.concatenate(lesions), np.concatenate(decoys)) > 0.97
