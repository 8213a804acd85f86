"""Lesion counts against naive loops, and against matchings worked out by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import label

from nnunet_xmodal.evaluation.lesions import components, lesion_metrics, lesion_overlaps

FEW = settings(max_examples=60, deadline=None)


def _naive_lesions(mask):
    """Sets of voxels that touch, also across corners, by growing each from its first voxel."""
    left, found = set(map(tuple, np.argwhere(mask))), []
    while left:
        lesion, front = set(), [left.pop()]
        while front:
            voxel = front.pop()
            lesion.add(voxel)
            for step in itertools.product((-1, 0, 1), repeat=mask.ndim):
                neighbour = tuple(np.add(voxel, step))
                if neighbour in left:
                    left.remove(neighbour)
                    front.append(neighbour)
        found.append(lesion)
    return found


def _most_pairs(allowed, taken=frozenset()):
    """Size of the largest one-to-one matching, by trying all; allowed: per lesion those it may be paired with."""
    if not allowed:
        return 0
    first, *others = allowed
    return max(_most_pairs(others, taken), *(1 + _most_pairs(others, taken | {j}) for j in first if j not in taken), 0)


def _naive(prediction, reference, threshold):
    predicted, true = _naive_lesions(prediction), _naive_lesions(reference)
    found = sum(any(lesion & other for other in predicted) for lesion in true)
    real = sum(any(lesion & other for other in true) for lesion in predicted)
    matches = _most_pairs(
        [[j for j, other in enumerate(true) if len(p & other) / len(p | other) >= threshold] for p in predicted]
    )
    sensitivity = found / len(true) if true else math.nan
    precision = real / len(predicted) if predicted else math.nan
    if not predicted and not true:
        f1 = math.nan
    else:
        f1 = 2 * sensitivity * precision / (sensitivity + precision) if found else 0
    return {
        "lesion_sensitivity": sensitivity,
        "lesion_precision": precision,
        "lesion_F1": f1,
        "lesion_sensitivity_IoU": matches / len(true) if true else math.nan,
        "lesion_precision_IoU": matches / len(predicted) if predicted else math.nan,
        "lesion_F1_IoU": 2 * matches / (len(true) + len(predicted)) if true or predicted else math.nan,
        "lesions": len(predicted),
        "reference_lesions": len(true),
    }


@pytest.mark.parametrize("shape, share", [((14,), 0.5), ((12, 13), 0.25), ((7, 8, 9), 0.06), ((1, 12, 13), 0.25)])
@pytest.mark.parametrize("threshold", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_against_naive_loops(shape, share, threshold, seed):
    rng = np.random.default_rng(seed)
    prediction = rng.random(shape) < share
    # shares some lesions with the prediction, and has some of its own
    reference = np.where(rng.random(shape) < 0.7, prediction, rng.random(shape) < share)
    expected = _naive(prediction, reference, threshold)
    assert lesion_metrics(prediction, reference, threshold) == pytest.approx(expected, nan_ok=True)


@FEW
@given(array_shapes(min_dims=1, max_dims=3, max_side=5).flatmap(lambda s: st.tuples(arrays(bool, s), arrays(bool, s))))
def test_for_any_masks(pair):
    prediction, reference = pair
    found, swapped = lesion_metrics(prediction, reference, 0.3), lesion_metrics(reference, prediction, 0.3)
    assert found == pytest.approx(_naive(prediction, reference, 0.3), nan_ok=True)
    for rule in ("", "_IoU"):
        assert found[f"lesion_sensitivity{rule}"] == pytest.approx(swapped[f"lesion_precision{rule}"], nan_ok=True)
        assert found[f"lesion_F1{rule}"] == pytest.approx(swapped[f"lesion_F1{rule}"], nan_ok=True)
        assert math.isnan(found[f"lesion_F1{rule}"]) or 0 <= found[f"lesion_F1{rule}"] <= 1
    # a pair that is matched also overlaps
    assert not found["lesion_sensitivity_IoU"] > found["lesion_sensitivity"]
    overlaps = lesion_overlaps(prediction, reference)
    assert overlaps.shared_voxels.sum() == (prediction & reference).sum()
    assert overlaps.predicted_voxels.sum() == prediction.sum()


@pytest.mark.parametrize("shape", [(30,), (1, 30), (12, 13), (9, 1), (7, 8, 9), (1, 12, 13), (1, 1, 4), (3, 1, 1)])
def test_components_are_those_of_scipy(shape):
    # many masks: cc3d 4.1.1 fails on a few in a hundred of some of these shapes when it gets them as bool
    for seed in range(100):
        mask = np.random.default_rng(seed).random(shape) < (0.2, 0.5)[seed % 2]
        numbered, count = components(mask)
        expected, expected_count = label(mask, np.ones((3,) * len(shape)))
        assert count == expected_count
        np.testing.assert_array_equal(numbered > 0, mask)
        # voxels that have one number in one have one in the other
        assert len(set(zip(numbered[mask].tolist(), expected[mask].tolist()))) == count


def test_one_blob_over_two_lesions_finds_both_but_is_matched_with_one():
    reference, prediction = np.zeros((2, 3, 12), bool)
    reference[1, [1, 2, 3, 7, 8]] = True
    prediction[1, 1:9] = True
    found = lesion_metrics(prediction, reference, 0.1)
    assert (found["lesion_sensitivity"], found["lesion_precision"], found["lesion_F1"]) == (1, 1, 1)
    assert (found["lesion_sensitivity_IoU"], found["lesion_precision_IoU"]) == (0.5, 1)
    assert found["lesion_F1_IoU"] == pytest.approx(2 / 3)


def test_as_many_pairs_as_possible_even_at_a_lower_overlap():
    # P0 overlaps R0 (IoU 6/10) and R1 (1/10); P1 overlaps R0 alone (1/8). Greedily P0-R0 would leave one pair.
    reference, prediction = np.zeros((2, 1, 14), bool)
    prediction[0, 0], prediction[0, 2:11] = True, True
    reference[0, 0:8], reference[0, 10:12] = True, True
    overlaps = lesion_overlaps(prediction, reference)
    assert sorted(overlaps.iou.round(3)) == [0.1, 0.125, 0.545]
    assert overlaps.matches(0.1) == 2
    assert overlaps.matches(0.11) == overlaps.matches(0.5) == 1
    assert overlaps.matches(0.6) == 0


def test_an_iou_that_equals_the_threshold_matches():
    reference, prediction = np.zeros((2, 10), bool)
    reference[0], prediction[:] = True, True
    assert lesion_metrics(prediction, reference, 0.1)["lesion_F1_IoU"] == 1
    assert lesion_metrics(prediction, reference, 0.11)["lesion_F1_IoU"] == 0


def test_empty_masks():
    mask, empty = np.eye(4, dtype=bool), np.zeros((4, 4), bool)
    missed = lesion_metrics(empty, mask, 0.1)
    assert {m for m, value in missed.items() if math.isnan(value)} == {"lesion_precision", "lesion_precision_IoU"}
    assert missed["lesion_F1"] == missed["lesion_F1_IoU"] == missed["lesion_sensitivity"] == 0
    invented = lesion_metrics(mask, empty, 0.1)
    assert {m for m, value in invented.items() if math.isnan(value)} == {"lesion_sensitivity", "lesion_sensitivity_IoU"}
    nothing = lesion_metrics(empty, empty, 0.1)
    assert {m for m, value in nothing.items() if not math.isnan(value)} == {"lesions", "reference_lesions"}


def test_thousands_of_specks_need_no_table_of_all_pairs():
    prediction = np.zeros((60, 120, 120), bool)
    prediction[::2, ::2, ::2] = True  # 108,000 lesions of one voxel
    found = lesion_metrics(prediction, prediction, 0.5)
    assert found["lesions"] == 108_000 and found["lesion_F1_IoU"] == found["lesion_F1"] == 1
