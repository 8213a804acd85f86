"""Surface distances against MONAI, against loops over pairs of voxels, and in what must hold for any two masks."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import binary_erosion, gaussian_filter

from nnunet_xmodal.evaluation.surface_distance import surface, surface_distances

FEW = settings(max_examples=40, deadline=None)


def _blobs(shape, seed, sigma=2.0, share=0.3):
    """Two smooth random masks that resemble each other."""
    rng = np.random.default_rng(seed)
    common, *own = (gaussian_filter(rng.standard_normal(shape), sigma) for _ in range(3))
    return [(field := common + 0.5 * noise) > np.quantile(field, 1 - share) for noise in own]


def _mask_pairs(max_dims=3):
    """Two masks of one shape, neither empty, and a spacing."""

    def of(shape):
        mask = arrays(bool, shape).filter(np.any)
        return st.tuples(mask, mask, st.tuples(*[st.floats(0.2, 5)] * len(shape)))

    return array_shapes(min_dims=1, max_dims=max_dims, min_side=2, max_side=6).flatmap(of)


def _box(shape, low, high):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high))] = True
    return mask


def _by_hand(prediction, reference, spacing):
    """Sorted distances from each edge voxel of one mask to the other's, by looking at all pairs."""
    edges = []
    for mask in (prediction, reference):
        faces = [step * sign for step in np.eye(mask.ndim, dtype=int) for sign in (1, -1)]
        edges.append([
            index
            for index in itertools.product(*map(range, mask.shape))
            if mask[index]
            and any(
                not all(0 <= i < n for i, n in zip(np.add(index, face), mask.shape)) or not mask[tuple(index + face)]
                for face in faces
            )
        ])  # fmt: skip
    return [
        sorted(min(math.dist(np.multiply(p, spacing), np.multiply(q, spacing)) for q in there) for p in here)
        for here, there in (edges, edges[::-1])
    ]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.6, 0.7)])
@pytest.mark.parametrize("shape", [(40, 37), (24, 26, 22)])
@pytest.mark.parametrize("seed", range(3))
def test_monai_agrees(shape, spacing, seed):
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    spacing = spacing[: len(shape)]
    prediction, reference = _blobs(shape, seed)
    found = surface_distances(prediction, reference, spacing)
    # MONAI: (batch, class, *spatial)
    masks = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, reference)]
    options = {"include_background": True, "spacing": spacing}
    hd95 = metrics.compute_hausdorff_distance(*masks, percentile=95, **options)
    assd = metrics.compute_average_surface_distance(*masks, symmetric=True, **options)
    assert found.hd95 == pytest.approx(hd95.item(), rel=1e-6)
    assert found.assd == pytest.approx(assd.item(), rel=1e-5)  # MONAI sums in single precision
    for tolerance in (0, 1, 2.5):
        nsd = metrics.compute_surface_dice(*masks, [tolerance], use_subvoxels=False, **options)
        assert found.nsd(tolerance) == pytest.approx(nsd.item(), rel=1e-6)


@pytest.mark.parametrize("shape", [(9,), (6, 7), (4, 5, 6)])
def test_against_a_loop_over_pairs(shape):
    rng = np.random.default_rng(0)
    prediction, reference = rng.random((2, *shape)) < 0.6
    spacing = (2.0, 0.5, 1.25)[: len(shape)]
    found = surface_distances(prediction, reference, spacing)
    there, back = _by_hand(prediction, reference, spacing)
    np.testing.assert_allclose(np.sort(found.prediction_to_reference), there, atol=1e-12)
    np.testing.assert_allclose(np.sort(found.reference_to_prediction), back, atol=1e-12)
    assert found.prediction_to_reference.dtype == np.float64
    assert found.hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert found.assd == pytest.approx(np.mean(there + back))
    assert found.nsd(1.0) == pytest.approx(np.mean([distance <= 1 for distance in there + back]))


@FEW
@given(arrays(bool, array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6)))
def test_a_surface_is_the_mask_without_its_erosion(mask):
    np.testing.assert_array_equal(surface(mask), mask & ~binary_erosion(mask))


@FEW
@given(_mask_pairs())
def test_both_masks_may_change_places_and_numbers_stay_in_bounds(pair):
    prediction, reference, spacing = pair
    found = surface_distances(prediction, reference, spacing)
    swapped = surface_distances(reference, prediction, spacing)
    diagonal = math.hypot(*np.multiply(spacing, prediction.shape))
    for a, b in ((found.hd95, swapped.hd95), (found.assd, swapped.assd)):
        assert a == pytest.approx(b)
        assert 0 <= a <= diagonal
    assert 0 <= found.nsd(1.0) == swapped.nsd(1.0) <= found.nsd(2.0) <= found.nsd(diagonal) == 1


@FEW
@given(_mask_pairs(), st.floats(0.1, 10))
def test_distances_grow_with_the_spacing(pair, factor):
    prediction, reference, spacing = pair
    found = surface_distances(prediction, reference, spacing)
    scaled = surface_distances(prediction, reference, np.multiply(spacing, factor))
    assert scaled.hd95 == pytest.approx(factor * found.hd95)
    assert scaled.assd == pytest.approx(factor * found.assd)
    assert scaled.nsd(1.3 * factor) == pytest.approx(found.nsd(1.3))


@FEW
@given(_mask_pairs())
def test_identical_masks_have_no_distance(pair):
    mask, _, spacing = pair
    found = surface_distances(mask, mask, spacing)
    assert (found.hd95, found.assd, found.nsd(0)) == (0, 0, 1)


@FEW
@given(_mask_pairs(), st.integers(0, 3))
def test_empty_space_around_changes_nothing(pair, width):
    prediction, reference, spacing = pair
    found = surface_distances(prediction, reference, spacing)
    padded = surface_distances(np.pad(prediction, width), np.pad(reference, width), spacing)
    np.testing.assert_array_equal(found.prediction_to_reference, padded.prediction_to_reference)
    np.testing.assert_array_equal(found.reference_to_prediction, padded.reference_to_prediction)


def test_a_plate_shifted_by_a_voxel():
    # one slice of 6×6 voxels: all of it is surface, and all of it moves by the slice distance
    plate, moved = _box((9, 8, 8), (3, 1, 1), (4, 7, 7)), _box((9, 8, 8), (4, 1, 1), (5, 7, 7))
    found = surface_distances(plate, moved, (2.5, 1, 1))
    assert (found.hd95, found.assd) == (2.5, 2.5)
    assert (found.nsd(2.49), found.nsd(2.5)) == (0, 1)


def test_a_cube_shifted_by_a_voxel():
    # 5×5×5: 98 of 125 voxels are surface; only the face that moved out, 25, and the inner 9 of the face that was left
    # behind have no voxel of the other surface on them, in either direction
    cube, moved = _box((9, 9, 9), (2, 2, 2), (7, 7, 7)), _box((9, 9, 9), (3, 2, 2), (8, 7, 7))
    found = surface_distances(cube, moved, (1, 1, 1))
    assert len(found.prediction_to_reference) == 98
    assert np.count_nonzero(found.prediction_to_reference) == 25 + 9
    assert found.hd95 == 1
    assert found.assd == pytest.approx(34 / 98)
    assert found.nsd(0.5) == pytest.approx(64 / 98)


def test_axes_of_one_voxel_are_left_out():
    prediction, reference = _blobs((30, 31), 0)
    flat = surface_distances(prediction, reference, (0.7, 0.8))
    for axis, spacing in ((0, (999, 0.7, 0.8)), (1, (0.7, 999, 0.8)), (2, (0.7, 0.8, 999))):
        masks = (np.expand_dims(mask, axis) for mask in (prediction, reference))
        found = surface_distances(*masks, spacing)
        np.testing.assert_array_equal(found.prediction_to_reference, flat.prediction_to_reference)
    # but not where only the masks are flat: a disk of one slice in a volume is all surface
    volume = np.zeros((5, 30, 31), bool)
    volume[2] = prediction
    assert len(surface_distances(volume, volume, (1, 1, 1)).prediction_to_reference) == prediction.sum()


def test_a_single_voxel():
    voxel = np.ones((1, 1, 1), bool)
    assert surface_distances(voxel, voxel, (1, 1, 1)).hd95 == 0


def test_a_distance_that_equals_the_tolerance_is_within_it():
    here, there = _box((20,), (10,), (11,)), _box((20,), (13,), (14,))
    assert 13 * 0.1 - 10 * 0.1 > 0.3  # in binary fractions
    assert surface_distances(here, there, (0.1,)).nsd(0.3) == 1


def test_empty_masks():
    mask, empty = _box((5, 5), (1, 1), (3, 3)), np.zeros((5, 5), bool)
    one = surface_distances(mask, empty, (1, 1))
    assert math.isnan(one.hd95) and math.isnan(one.assd) and one.nsd(100) == 0
    both = surface_distances(empty, empty, (1, 1))
    assert math.isnan(both.hd95) and math.isnan(both.assd) and math.isnan(both.nsd(1))
