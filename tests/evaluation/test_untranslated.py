"""Is what is made of A more like B than A is?"""

import numpy as np
import pytest

from nnunet_xmodal.evaluation.image_similarity import image_similarity, range_inside
from nnunet_xmodal.evaluation.untranslated import untranslated_ssim, worse_than_untranslated


@pytest.fixture
def images():
    """Three channels `(3, 12, 14)` with a mask: noise, nearly the same noise, other noise."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(12, 14))
    mask = np.zeros((12, 14), bool)
    mask[2:-2, 1:-3] = True
    return np.stack((first, first + 0.1 * rng.normal(size=first.shape), rng.normal(size=first.shape))), mask


def test_of_one_channel_each_it_is_the_ssim_of_both(images):
    real, mask = images
    ranges = range_inside(real, mask)
    lowest = real[1][mask].min()
    expected = image_similarity(real[:1] - lowest, real[1:2] - lowest, mask, ranges[1])["SSIM"]
    assert untranslated_ssim(real, mask, ranges, [0], [1]) == pytest.approx(expected)
    assert expected > 0.9 and untranslated_ssim(-real, mask, ranges, [0], [1]) == pytest.approx(expected, abs=0.1)


def test_of_several_channels_the_most_similar_counts_for_each_target(images):
    real, mask = images
    ranges = range_inside(real, mask)
    one, other = (untranslated_ssim(real, mask, ranges, [source], [0]) for source in (1, 2))
    assert untranslated_ssim(real, mask, ranges, [2, 1], [0]) == one > other
    both = np.mean([untranslated_ssim(real, mask, ranges, [0], [target]) for target in (1, 2)])
    assert untranslated_ssim(real, mask, ranges, [0], [1, 2]) == pytest.approx(both)


def test_nothing_to_measure_is_nan(images):
    real, mask = images
    empty = np.zeros_like(mask)
    assert np.isnan(untranslated_ssim(real, empty, range_inside(real, empty), [0], [1]))
    real[1] = 3
    assert np.isnan(untranslated_ssim(real, mask, range_inside(real, mask), [0], [1]))


def told(*cases):
    """`(A to B made, A as it is, B to A made, B as it is)` of every case → sentences."""
    measured = [{"A_to_B_SSIM": case[0], "B_to_A_SSIM": case[2], "A_to_B_MAE": 0.1} for case in cases]
    return worse_than_untranslated(measured, [{"A_to_B_SSIM": case[1], "B_to_A_SSIM": case[3]} for case in cases])


def test_a_direction_that_makes_it_worse_has_a_sentence_of_its_own():
    (sentence,) = told((-0.2, 0.6, 0.9, 0.6))
    assert sentence.startswith("What is made of A is less similar to B (SSIM -0.200) than A itself (0.600)")
    assert [sentence[:15] for sentence in told((0.5, 0.6, 0.5, 0.6))] == ["What is made of"] * 2
    assert told((0.7, 0.6, 0.7, 0.6)) == []


def test_the_mean_over_cases_counts_and_nan_does_not():
    assert told((0.9, 0.6, 0.9, 0.6), (0.5, 0.6, 0.5, 0.6)) == []
    nan = float("nan")
    assert len(told((nan, nan, 0.9, 0.6), (0.5, 0.6, nan, 0.6))) == 1
    assert told((nan, nan, nan, nan)) == []
