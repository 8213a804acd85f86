"""Phantoms of MR and ultrasound: reproducible, aligned at edges, and unrelated in intensity."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, label

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.phantoms.mr_us import SHAPE, SPACING, mr_us_phantom

SEEDS = range(8)


@pytest.fixture(scope="module")
def phantoms():
    return [mr_us_phantom(np.random.default_rng(seed)) for seed in SEEDS]


def explained(target, by, bins=32):
    """The part of the variance of `target` that any function of `by` explains, the correlation ratio."""
    edges = np.quantile(by, np.linspace(0, 1, bins + 1)[1:-1])
    groups = [target[np.digitize(by, edges) == index] for index in range(bins)]
    return sum(len(group) * group.mean() ** 2 for group in groups if len(group)) / len(target) / target.var() - (
        target.mean() ** 2 / target.var()
    )


def test_shapes_types_and_one_organ_within_the_grid(phantoms):
    for phantom in phantoms:
        assert phantom.images.shape == (2, *SHAPE) and phantom.images.dtype == np.float32
        assert np.isfinite(phantom.images).all() and (phantom.images[0] > 0).all()
        assert phantom.label.dtype == np.uint8 and label(phantom.label)[1] == 1
        assert phantom.label[1:-1, 1:-1, 1:-1].sum() == phantom.label.sum()
        millilitres = phantom.label.sum() * np.prod(SPACING) / 1000
        assert 10 < millilitres < 50


def test_the_ultrasound_is_zero_outside_of_its_fan_which_ends_inside_the_grid(phantoms):
    for phantom in phantoms:
        np.testing.assert_array_equal(phantom.images[1] > 0, phantom.fan)
        assert phantom.fan[1:-1, 1:-1, 1:-1].sum() == phantom.fan.sum()
        assert 0.1 < phantom.fan.mean() < 0.6
        assert phantom.fan[phantom.label == 1].mean() > 0.5  # most of the organ is seen


@pytest.mark.slow
def test_fans_lie_elsewhere_in_every_case(phantoms):
    centres = [np.argwhere(phantom.fan).mean(0) - np.argwhere(phantom.label).mean(0) for phantom in phantoms]
    assert (np.std(centres, axis=0) * SPACING > 0.7).all()


def test_no_function_of_one_image_gives_the_other(phantoms):
    """Within a case, and with another relation in every case: tissues that are bright in one are dark in the next."""
    relations = []
    for phantom in phantoms:
        seen = phantom.fan & (phantom.label == 1)
        mr, us = phantom.images[0][seen], phantom.images[1][seen]
        assert explained(us, mr) < 0.35
        relations.append(np.corrcoef(mr, us)[0, 1])
    assert min(relations) < 0.1 and max(relations) < 0.5


def test_both_images_have_an_edge_at_the_organs_surface(phantoms):
    """Averages over all phantoms, inside of fans: what is near the surface differs from what is further away."""
    differences = []
    for phantom in phantoms:
        organ = phantom.label == 1
        surface = organ & ~binary_erosion(organ)
        near = phantom.fan & binary_dilation(surface)
        around = phantom.fan & binary_dilation(organ, iterations=4) & ~binary_dilation(surface, iterations=2)
        differences.append([np.log(image[near].mean() / image[around].mean()) for image in phantom.images])
    mr, us = np.mean(differences, axis=0)
    assert mr < -0.15  # the capsule is dark
    assert us > 0.05  # and an echo


def test_speckle_multiplies(phantoms):
    """Uncompressed, the spread within small neighbourhoods grows with their mean."""
    echo = np.expm1(phantoms[0].images[1] / 60)
    mean = gaussian_filter(echo, 2)
    spread = np.sqrt(np.maximum(gaussian_filter(echo**2, 2) - mean**2, 0))
    inner = binary_erosion(phantoms[0].fan, iterations=4)
    assert np.corrcoef(mean[inner], spread[inner])[0, 1] > 0.6


@pytest.mark.parametrize("shape, spacing", [((24, 32, 32), (3.0, 2.4, 2.4)), ((36, 80, 72), (2.2, 0.9, 1.1))])
def test_other_grids(shape, spacing):
    phantom = mr_us_phantom(np.random.default_rng(0), shape, spacing)
    assert phantom.images.shape == (2, *shape)
    assert 10 < phantom.label.sum() * np.prod(spacing) / 1000 < 50


def test_a_grid_that_is_too_small_is_a_sentence():
    with pytest.raises(XModalError, match=r"needs 70 mm along every axis, and \[16, 48, 48\] voxels"):
        mr_us_phantom(np.random.default_rng(0), (16, 48, 48), (2.0, 2.0, 2.0))
