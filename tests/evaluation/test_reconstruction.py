import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.reconstruction import (
    DIRECTIONS,
    laplacian_of_gaussian,
    reconstruction_quality,
    relative_error,
)

SIZE = (14, 18, 16)


def pair(seed=0):
    """A susceptibility map of both signs and a reconstruction, with a mask inside the grid."""
    rng = np.random.default_rng(seed)
    reference = (0.05 * rng.standard_normal(SIZE)).astype(np.float32)
    image = reference + (0.02 * rng.standard_normal(SIZE)).astype(np.float32)
    mask = np.zeros(SIZE, dtype=bool)
    mask[2:-1, 3:-2, :-4] = True
    return image, reference, mask & (rng.random(SIZE) > 0.1)


def naive_log():
    """The 15³ kernel: (r² − 3σ²)/σ⁴ times a Gaussian whose sum along every axis is 1."""
    along = np.arange(-7, 8)
    gauss = np.exp(-(along**2) / (2 * 1.5**2))
    gauss /= gauss.sum()
    z, y, x = np.meshgrid(along, along, along, indexing="ij")
    weight = gauss[:, None, None] * gauss[:, None] * gauss
    return weight * (z**2 + y**2 + x**2 - 3 * 1.5**2) / 1.5**4


def test_hfens_kernel_is_the_laplacian_of_a_gaussian_of_15_voxels():
    impulse = np.zeros((17, 17, 17))
    impulse[8, 8, 8] = 1
    found = laplacian_of_gaussian(impulse)
    np.testing.assert_allclose(found[1:-1, 1:-1, 1:-1], naive_log(), atol=1e-4 * np.abs(naive_log()).max())
    assert not found[0].any() and not found[:, -1].any()
    assert abs(found.sum()) < 1e-4


def test_rmse_and_hfen_are_the_printed_formulas():
    image, reference, mask = pair()
    x, y = (np.where(mask, volume, 0).astype(float) for volume in (image, reference))
    inside = np.argwhere(mask)
    found = reconstruction_quality(image, reference, mask)
    difference = sum((x[tuple(i)] - y[tuple(i)]) ** 2 for i in inside)
    assert found["RMSE_percent"] == pytest.approx(
        100 * math.sqrt(difference / sum(y[tuple(i)] ** 2 for i in inside)), rel=1e-9
    )
    edges = []
    for volume in (x, y):
        padded = np.pad(volume, 7)  # zeros beyond the border
        windows = np.lib.stride_tricks.sliding_window_view(padded, (15, 15, 15))
        edges.append(np.array([(windows[tuple(i)] * naive_log()).sum() for i in inside]))
    expected = 100 * np.linalg.norm(edges[0] - edges[1]) / np.linalg.norm(edges[1])
    assert found["HFEN_percent"] == pytest.approx(expected, rel=1e-4)


def test_psnr_and_ssim_are_those_of_intensities_from_the_smallest_of_the_reference():
    image, reference, mask = pair()
    x, y = (np.where(mask, volume, 0).astype(float) for volume in (image, reference))
    span = np.ptp(y[mask])
    found = reconstruction_quality(image, reference, mask)
    assert found["PSNR"] == pytest.approx(10 * math.log10(span**2 / np.square(x - y)[mask].mean()), rel=1e-9)
    box = (slice(2, -1), slice(3, -2), slice(0, -4))
    smallest = y[mask].min()
    _, similarity = structural_similarity(
        x[box] - smallest,
        y[box] - smallest,
        data_range=span,
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
    )
    assert found["SSIM"] == pytest.approx(similarity[mask[box]].mean(), abs=1e-12)


def test_equal_maps():
    _, reference, mask = pair()
    found = reconstruction_quality(reference, reference.copy(), mask)
    errors = dict.fromkeys(("RMSE_percent", "RMSE_demeaned_percent", "RMSE_detrended_percent", "HFEN_percent"), 0)
    assert found == {**errors, "SSIM": pytest.approx(1), "PSNR": math.inf}
    assert found.keys() == DIRECTIONS.keys()


def test_neither_reference_nor_scale_count_where_they_are_taken_out():
    image, reference, mask = pair()
    plain = reconstruction_quality(image, reference, mask)
    moved = reconstruction_quality(image + 0.5, reference, mask)
    assert moved["RMSE_percent"] > 1.5 * plain["RMSE_percent"]
    for name in ("RMSE_demeaned_percent", "RMSE_detrended_percent"):
        assert moved[name] == pytest.approx(plain[name], rel=1e-4)
    halved = reconstruction_quality(0.5 * reference + 0.2, reference, mask)
    assert halved["RMSE_demeaned_percent"] == pytest.approx(50, rel=1e-4)
    assert halved["RMSE_detrended_percent"] == pytest.approx(0, abs=1e-3)
    assert np.isnan(reconstruction_quality(0 * image, reference, mask)["RMSE_detrended_percent"])


def test_a_map_of_zeros_misses_everything_and_a_doubled_one_as_much():
    _, reference, mask = pair()
    for image in (np.zeros_like(reference), 2 * reference):
        found = reconstruction_quality(image, reference, mask)
        assert found["RMSE_percent"] == pytest.approx(100) and found["HFEN_percent"] == pytest.approx(100)


def test_ssim_does_not_turn_over_where_mean_values_are_opposite():
    """White matter at −0.01 instead of 0.01 ppm, with the right structures and a vein and a calcification in range."""
    rng, everywhere = np.random.default_rng(0), np.ones(SIZE, dtype=bool)
    reference = 0.01 + 0.003 * rng.standard_normal(SIZE)
    reference[0, 0, 0], reference[0, 0, 1] = -0.2, 0.2
    image = reference - 0.02
    _, printed = structural_similarity(
        image, reference, data_range=0.4, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    assert np.median(printed) < -0.5
    assert reconstruction_quality(image, reference, everywhere)["SSIM"] > 0.95


def test_the_unit_does_not_matter_nor_what_lies_outside_the_mask():
    image, reference, mask = pair()
    before = reconstruction_quality(image, reference, mask)
    assert reconstruction_quality(1000 * image, 1000 * reference, mask) == pytest.approx(before, rel=1e-6)
    image, reference = np.where(mask, image, 7.0), np.where(mask, reference, np.nan)
    assert reconstruction_quality(image, reference, mask) == pytest.approx(before, rel=1e-12)


def test_mirroring_both_changes_nothing():
    image, reference, mask = pair()
    before = reconstruction_quality(image, reference, mask)
    mirrored = (volume[::-1, :, ::-1] for volume in (image, reference, mask))
    assert reconstruction_quality(*mirrored) == pytest.approx(before, rel=1e-9)


def test_blur_is_an_error_of_high_frequencies_and_a_shift_of_all_values_is_none():
    image, reference, _ = pair()
    everywhere = np.ones(SIZE, dtype=bool)
    shifted = np.pad(reference, 12, mode="constant")
    inside = np.pad(everywhere, 12, mode="constant")
    found = laplacian_of_gaussian(shifted + 0.1), laplacian_of_gaussian(shifted)
    core = np.zeros_like(inside)
    core[8:-8, 8:-8, 8:-8] = True
    assert relative_error(*found, core) < 0.1
    worse = reconstruction_quality(reference + 2 * (image - reference), reference, everywhere)
    better = reconstruction_quality(image, reference, everywhere)
    for name, direction in DIRECTIONS.items():
        assert (worse[name] > better[name]) == (direction == "lower")


def test_what_has_no_answer_is_nan():
    image, reference, mask = pair()
    assert all(math.isnan(value) for value in reconstruction_quality(image, reference, np.zeros_like(mask)).values())
    found = reconstruction_quality(image, np.zeros_like(reference), mask)
    assert all(math.isnan(value) for value in found.values())


def test_faulty_arguments_are_named():
    image, reference, mask = pair()
    for arguments in ((image, reference[1:], mask), (image, reference, mask[1:]), (image, reference, mask.astype(int))):
        with pytest.raises(XModalError, match=r"must have the same shape, \(z, y, x\), and the mask must be bool"):
            reconstruction_quality(*arguments)
