import math

import numpy as np
import pytest
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.image_similarity import image_similarity, range_inside, ssim_map

WANG = {"gaussian_weights": True, "use_sample_covariance": False}
SIZES = [(24, 17), (13, 14, 15)]


def pair(channels, size, seed=0):
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal((channels, *size)).astype(np.float32)
    return reference + 0.3 * rng.standard_normal(reference.shape).astype(np.float32), reference


def blob(size):
    """A mask away from the border at some sides and at it at others."""
    mask = np.zeros(size, dtype=bool)
    mask[tuple(slice(0, side // 2) if axis else slice(3, side - 2) for axis, side in enumerate(size))] = True
    return mask & (np.random.default_rng(1).random(size) > 0.2)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_over_the_whole_image_the_errors_are_skimages(size):
    image, reference = pair(1, size)
    found = image_similarity(image, reference, np.ones(size, dtype=bool), 4.0)
    assert found["MAE"] == pytest.approx(np.abs(image - reference).mean(), rel=1e-6)
    expected = peak_signal_noise_ratio(reference, image, data_range=4.0)
    assert found["PSNR"] == pytest.approx(expected, rel=1e-6)
    assert found["PSNR"] == pytest.approx(10 * math.log10(16 / mean_squared_error(image, reference)), rel=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_inside_a_mask_ssim_is_the_mean_of_skimages_map_of_the_uncropped_image(size):
    image, reference = pair(1, size)
    mask = blob(size)
    x, y = image[0].astype(float), reference[0].astype(float)
    _, similarity = structural_similarity(x, y, data_range=4.0, full=True, **WANG)
    found = image_similarity(image, reference, mask, 4.0)
    assert found["SSIM"] == pytest.approx(similarity[mask].mean(), abs=1e-12)
    assert found["MAE"] == pytest.approx(np.abs(x - y)[mask].mean(), abs=1e-12)
    assert found["PSNR"] == pytest.approx(10 * math.log10(16 / np.square(x - y)[mask].mean()), abs=1e-9)


def test_ssim_of_a_window_is_the_formula_of_wang():
    """One voxel in the middle of 11², where the window is the whole image."""
    (x,), (y,) = pair(1, (11, 11))
    x, y = x.astype(float), y.astype(float)
    along = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weight = np.outer(along, along) / along.sum() ** 2
    mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
    var_x, var_y = (weight * (x - mean_x) ** 2).sum(), (weight * (y - mean_y) ** 2).sum()
    covariance = (weight * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = (0.01 * 4) ** 2, (0.03 * 4) ** 2
    expected = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    expected /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    assert ssim_map(x, y, 4.0)[5, 5] == pytest.approx(expected, abs=1e-12)
    mask = np.zeros((11, 11), dtype=bool)
    mask[5, 5] = True
    assert image_similarity(x[None], y[None], mask, 4.0)["SSIM"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [(6, 6), (1, 20, 20), (3, 5, 40)], ids=str)
def test_equal_images_of_any_size(size):
    image, _ = pair(2, size)
    found = image_similarity(image, image.copy(), np.ones(size, dtype=bool), 4.0)
    assert found["MAE"] == 0 and found["PSNR"] == math.inf and found["SSIM"] == pytest.approx(1)


def test_a_volume_of_one_slice_has_the_ssim_of_the_slice():
    image, reference = pair(1, (20, 16))
    mask = blob((20, 16))
    expected = image_similarity(image, reference, mask, 4.0)
    found = image_similarity(image[:, None], reference[:, None], mask[None], 4.0)
    assert found == pytest.approx(expected, abs=1e-12)


def test_mirroring_beforehand_is_what_skimage_does_at_the_border(monkeypatch):
    """With sides just long enough for skimage, both ways are the same."""
    (x,), (y,) = pair(1, (11, 11))
    _, expected = structural_similarity(x.astype(float), y.astype(float), data_range=4.0, full=True, **WANG)
    monkeypatch.setattr("nnunet_xmodal.evaluation.image_similarity._RADIUS", 6)  # 11 counts as short
    np.testing.assert_allclose(ssim_map(x.astype(float), y.astype(float), 4.0), expected, atol=1e-12)


def test_channels_are_averaged_each_with_its_range():
    image, reference = pair(2, (16, 16))
    image[1], reference[1] = 100 * image[1], 100 * reference[1]
    mask = blob((16, 16))
    found = image_similarity(image, reference, mask, [4.0, 400.0])
    each = [
        image_similarity(image[:1], reference[:1], mask, 4.0),
        image_similarity(image[1:], reference[1:], mask, 400.0),
    ]
    for name in ("MAE", "PSNR", "SSIM"):
        assert found[name] == pytest.approx((each[0][name] + each[1][name]) / 2)


def test_scaling_images_and_range_changes_the_unit_alone():
    image, reference = pair(1, (16, 16))
    mask = blob((16, 16))
    before = image_similarity(image, reference, mask, 4.0)
    after = image_similarity(1024 * image, 1024 * reference, mask, 4096.0)
    assert after == pytest.approx({**before, "MAE": 1024 * before["MAE"]}, rel=1e-9)


def test_what_lies_outside_the_mask_and_its_windows_does_not_count():
    image, reference = pair(1, (40, 40))
    mask = np.zeros((40, 40), dtype=bool)
    mask[:8, 10:20] = True
    before = image_similarity(image, reference, mask, 4.0)
    image[:, 13:], image[:, :, 25:] = 1e6, -1e6
    assert image_similarity(image, reference, mask, 4.0) == before


def test_a_worse_image_is_worse_by_every_measure():
    image, reference = pair(1, (24, 24))
    mask = blob((24, 24))
    near, far = (image_similarity(reference + f * (image - reference), reference, mask, 4.0) for f in (1, 2))
    assert near["MAE"] < far["MAE"] and near["PSNR"] > far["PSNR"] and near["SSIM"] > far["SSIM"]


def test_an_empty_mask_gives_nan():
    image, reference = pair(2, (16, 16))
    mask = np.zeros((16, 16), dtype=bool)
    found = image_similarity(image, reference, mask, range_inside(reference, mask))
    assert all(math.isnan(found[name]) for name in ("MAE", "PSNR", "SSIM"))


def test_a_constant_reference_has_no_range_to_compare_with():
    image, mask = np.full((1, 16, 16), 3.0), np.ones((16, 16), dtype=bool)
    reference = np.ones_like(image)
    found = image_similarity(image, reference, mask, range_inside(reference, mask))
    assert found["MAE"] == 2 and math.isnan(found["PSNR"]) and math.isnan(found["SSIM"])


def test_range_inside_the_mask():
    reference = np.array([[[0.0, 5.0, 900.0]], [[-1.0, 1.0, 0.0]]])
    mask = np.array([[True, True, False]])
    assert range_inside(reference, mask) == [5.0, 2.0]
    assert range_inside(reference, np.zeros_like(mask)) == [0.0, 0.0]


def test_faulty_arguments_are_named():
    image, reference = pair(1, (16, 16))
    mask = np.ones((16, 16), dtype=bool)
    for arguments in (
        (image, reference[:, 1:], mask, 4.0),
        (image, reference, mask[1:], 4.0),
        (image, reference, mask.astype(int), 4.0),
    ):
        with pytest.raises(XModalError, match="must have the same shape, .* and the mask must be bool"):
            image_similarity(*arguments)
    for data_range in (-1.0, math.inf, math.nan):
        with pytest.raises(XModalError, match="the data range must be a positive number, .* and is"):
            image_similarity(image, reference, mask, data_range)
