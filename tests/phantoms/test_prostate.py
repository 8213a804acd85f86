"""Prostate phantoms: reproducible; gland and lesions show in either channel, benign foci in one."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, label

from nnunet_xmodal.phantoms import prostate as prostate_phantoms
from nnunet_xmodal.phantoms.prostate import LABELS, SHAPE, SPACING, prostate_phantom

SEEDS = range(12)


@pytest.fixture(scope="module")
def phantoms():
    return [prostate_phantom(np.random.default_rng(seed)) for seed in SEEDS]


def test_shapes_types_and_labels(phantoms):
    for phantom in phantoms:
        assert phantom.images.shape == (2, *SHAPE) and phantom.images.dtype == np.float32
        assert phantom.label.shape == SHAPE and phantom.label.dtype == np.uint8
        assert set(np.unique(phantom.label)) == {0, 1, 2}
        assert (phantom.images > 0).all() and np.isfinite(phantom.images).all()


def test_lesions_are_dark_in_both_channels_and_benign_foci_in_one(phantoms):
    for phantom in phantoms:
        t2w, adc = phantom.dark
        np.testing.assert_array_equal(phantom.label == 2, t2w & adc)
        assert (phantom.label[t2w | adc] > 0).all()  # all within the gland
    for channel in range(2):  # some phantoms have a focus that this channel alone shows
        assert any((phantom.dark[channel] & (phantom.label == 1)).any() for phantom in phantoms)


@pytest.mark.parametrize("channel", [0, 1])
def test_every_focus_lowers_its_channel_by_the_drawn_contrast_after_the_blur(phantoms, monkeypatch, channel):
    """Against the same phantoms, noise included, with foci that are not dark."""
    least, unit = prostate_phantoms._DARKER[channel][0], prostate_phantoms._UNITS[channel]
    monkeypatch.setattr(prostate_phantoms, "_DARKER", ((0, 0), (0, 0)))
    for seed, phantom in zip(SEEDS, phantoms):
        without = prostate_phantom(np.random.default_rng(seed))
        np.testing.assert_array_equal(without.label, phantom.label)
        drop = (without.images - phantom.images)[channel] / unit
        foci, n_foci = label(phantom.dark[channel])
        far = distance_transform_edt(~phantom.dark[channel], sampling=SPACING) > 6  # more than four widths of the blur
        assert np.abs(drop[far]).max() < 1e-3
        # gain and bias at their darkest; of a ball that is blurred on its own voxels more than half is left on average
        for focus in range(1, n_foci + 1):
            assert drop[foci == focus].mean() > 0.5 * least * 0.85 * np.exp(-0.3)


@pytest.mark.parametrize("channel", [0, 1])
def test_either_channel_alone_shows_the_gland(phantoms, channel):
    """The surroundings differ by more than 0.4 from either zone, of the zone: 1.5 to 1, and 0.5 to 0.9."""
    for phantom in phantoms:
        gland = phantom.images[channel][(phantom.label > 0) & ~phantom.dark[channel]]
        outside = phantom.images[channel][phantom.label == 0]
        assert abs(np.median(outside) - np.median(gland)) > 0.4 * np.median(gland)


def test_labels_of_lesions_lie_above_those_of_the_gland():
    assert LABELS == {"background": 0, "prostate": 1, "lesion": 2}
