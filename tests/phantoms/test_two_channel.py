"""Phantoms: reproducible, and only both channels together tell lesions from decoys."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as components

from nnunet_xmodal.phantoms.two_channel import SHAPE, SPACING, phantom_case, write_phantom_dataset

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


def test_equal_seeds_give_equal_phantoms_and_others_do_not(phantoms):
    again = phantom_case(np.random.default_rng(SEEDS[0]))
    for ours, theirs in zip(phantoms[0], again):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(phantoms[0].images, phantoms[1].images)
    assert not np.array_equal(phantoms[0].label, phantoms[1].label)


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


def test_dataset_in_raw_format(tmp_path):
    folder = tmp_path / "Dataset950_Phantom"
    write_phantom_dataset(folder, n_train=2, n_test=1, seed=3)
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "T2W", "1": "ADC"}
    assert dataset["labels"] == {"background": 0, "lesion": 1}
    assert dataset["numTraining"] == 2
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.nii.gz"))
    assert names == sorted(
        f"{name}.nii.gz"
        for split, cases in (("Tr", ("phantom_tr000", "phantom_tr001")), ("Ts", ("phantom_ts000",)))
        for case in cases
        for name in (f"images{split}/{case}_0000", f"images{split}/{case}_0001", f"labels{split}/{case}")
    )
    image = sitk.ReadImage(str(folder / "imagesTr/phantom_tr000_0000.nii.gz"))
    assert image.GetSpacing() == SPACING[::-1] and image.GetSize() == SHAPE[::-1]
    assert not [path for path in folder.rglob(".tmp_*")]


def test_more_cases_leave_the_others_as_they_are(tmp_path):
    def first(name, n_train):
        write_phantom_dataset(tmp_path / name, n_train, 0, seed=3)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name / "imagesTr/phantom_tr000_0001.nii.gz")))

    np.testing.assert_array_equal(first("one", 1), first("two", 2))
