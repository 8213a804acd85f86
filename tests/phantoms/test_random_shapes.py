"""Phantoms of no anatomy: susceptibility that nothing but the field tells, of both signs, with heavy tails."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt, label
from scipy.stats import kurtosis

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.phantoms.heads import NOISE, susceptibility_phantom
from nnunet_xmodal.phantoms.random_shapes import random_shapes_phantom
from nnunet_xmodal.physics import dipole
from nnunet_xmodal.physics.dipole import field_direction

GRID = {"shape": (32, 36, 32), "spacing": (5.0, 4.5, 4.5)}


@pytest.fixture(scope="module")
def phantoms():
    return [random_shapes_phantom(np.random.default_rng(seed), **GRID) for seed in range(8)]


def told_by_depth(phantom) -> float:
    """Share of the variance that the mean at every depth below the mask's border explains."""
    mask = phantom.mask > 0
    depth = np.ceil(distance_transform_edt(mask)).astype(int)[mask]
    chi = phantom.susceptibility[mask] - phantom.susceptibility[mask].mean()
    means = np.bincount(depth, chi) / np.maximum(np.bincount(depth), 1)
    return float((means[depth] ** 2).mean() / chi.var())


def test_shapes_types_and_one_mask_within_the_grid(phantoms):
    for phantom in phantoms:
        for volume, dtype in zip(phantom[:3], (np.float32, np.float32, np.uint8)):
            assert volume.shape == GRID["shape"] and volume.dtype == dtype and np.isfinite(volume).all()
        mask = phantom.mask == 1
        sizes = np.bincount(label(mask)[0].ravel())[1:]
        assert sizes.max() > 0.95 * sizes.sum() and mask[1:-1, 1:-1, 1:-1].sum() == mask.sum()
        assert not phantom.field[~mask].any() and not phantom.susceptibility[~mask].any()


@pytest.mark.slow
def test_the_depth_tells_much_of_a_head_and_little_of_these(phantoms):
    shapes = np.mean([told_by_depth(phantom) for phantom in phantoms])
    heads = np.mean([told_by_depth(susceptibility_phantom(np.random.default_rng(seed), **GRID)) for seed in range(3)])
    assert heads > 0.3 and shapes < 0.1


def test_values_are_of_both_signs_and_have_heavy_tails(phantoms):
    inside = [phantom.susceptibility[phantom.mask == 1] for phantom in phantoms]
    assert all(abs(values.mean()) < 0.005 and 0.005 < values.std() < 0.2 for values in inside)
    assert all(np.percentile(values, 1) < -0.01 and np.percentile(values, 99) > 0.01 for values in inside)
    assert kurtosis(np.concatenate(inside)) > 1  # 0 is a Gaussian's


@pytest.mark.slow
def test_the_field_is_that_of_the_map_on_a_finer_grid_with_noise(phantoms):
    for phantom in phantoms[:3]:
        chi, mask = torch.from_numpy(phantom.susceptibility)[None, None], phantom.mask == 1
        modelled = dipole.forward(chi, GRID["spacing"], field_direction(phantom.direction_cosines))[0, 0].numpy()
        difference = (modelled - phantom.field)[mask]
        assert NOISE[0] * 0.9 < difference.std() < 0.7 * phantom.field[mask].std()


def test_equal_seeds_give_equal_phantoms(phantoms):
    for ours, theirs in zip(phantoms[0], random_shapes_phantom(np.random.default_rng(0), **GRID)):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(phantoms[0].mask, phantoms[1].mask)


def test_a_grid_that_is_too_small_is_a_sentence():
    with pytest.raises(XModalError, match=r"needs 16 voxels along every axis, and \[8, 48, 48\] are fewer"):
        random_shapes_phantom(np.random.default_rng(0), (8, 48, 48), (2.0, 2.0, 2.0))
