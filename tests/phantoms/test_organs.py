"""Phantoms of abdomens: four organs in their places, reproducible, and not to be told by intensity alone."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import label as components

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.phantoms.organs import (
    CONTRASTS,
    EXTENT,
    LABELS,
    SHAPE,
    organ_phantom,
    spacing_of,
    write_organ_dataset,
)
from nnunet_xmodal.tasks.few_shot.superpixels import SuperpixelSettings, felzenszwalb_superpixels, intensity_range

SMALL = (12, 64, 64)
SEEDS = range(6)
ORGANS = {name: value for name, value in LABELS.items() if value}


@pytest.fixture(scope="module")
def phantoms():
    return {
        contrast: [organ_phantom(np.random.default_rng(seed), contrast, SMALL) for seed in SEEDS]
        for contrast in CONTRASTS
    }


def test_shapes_types_and_all_organs_in_every_scan(phantoms):
    voxel = np.prod(spacing_of(SMALL)) / 1000
    bounds = {"liver": (500, 2500), "spleen": (30, 350), "left_kidney": (40, 250), "right_kidney": (30, 250)}  # ml
    for scans in phantoms.values():
        for image, label in scans:
            assert image.shape == label.shape == SMALL
            assert image.dtype == np.float32 and label.dtype == np.uint8 and np.isfinite(image).all()
            for organ, (low, high) in bounds.items():
                assert low < (label == LABELS[organ]).sum() * voxel < high, organ
                parts, n = components(label == LABELS[organ])
                assert np.bincount(parts.ravel())[1:].max() > 0.9 * (label == LABELS[organ]).sum()
            assert not label[:, [0, -1]].any() and not label[:, :, [0, -1]].any()
    assert all((image > 0).all() for image, _ in phantoms["mr"])


def test_right_is_right_and_organs_lie_elsewhere_in_every_scan(phantoms):
    centres = {
        organ: np.array([np.argwhere(label == value).mean(0) for _, label in phantoms["ct"]])
        for organ, value in ORGANS.items()
    }
    x = {organ: places[:, 2] for organ, places in centres.items()}
    assert (x["liver"] < 32).all() and (x["right_kidney"] < 32).all()
    assert (x["left_kidney"] > 32).all() and (x["spleen"] > x["left_kidney"]).all()
    for places in centres.values():
        assert (np.std(places, axis=0) * spacing_of(SMALL) > 1.5).all()  # mm


def test_both_contrasts_show_one_anatomy_and_tell_other_organs_apart(phantoms):
    def means(image, label):
        return np.array([image[label == value].mean() for value in ORGANS.values()])

    for ct, mr in zip(phantoms["ct"], phantoms["mr"]):
        np.testing.assert_array_equal(ct.label, mr.label)
    names = list(ORGANS)
    liver, kidney, spleen = names.index("liver"), names.index("left_kidney"), names.index("spleen")
    ct, mr = (np.mean([means(*scan) for scan in phantoms[contrast]], 0) for contrast in CONTRASTS)
    assert abs(ct[liver] - ct[spleen]) < 20 < ct[kidney] - ct[spleen]
    assert min(mr[spleen], mr[kidney]) - mr[liver] > 60 > abs(mr[kidney] - mr[spleen])


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_no_window_of_intensities_segments_an_organ(phantoms, contrast):
    """The best interval, chosen with the labels for every scan and organ, is still far from it."""
    dice = []
    for image, label in phantoms[contrast]:
        edges = np.quantile(image, np.linspace(0, 1, 81))
        bins = np.clip(np.digitize(image, edges) - 1, 0, 79)
        for value in ORGANS.values():
            inside = np.bincount(bins[label == value], minlength=80).cumsum()
            everything = np.bincount(bins.ravel(), minlength=80).cumsum()
            inside, everything = (np.concatenate(([0], counts)) for counts in (inside, everything))
            hit = inside[None] - inside[:, None]
            taken = everything[None] - everything[:, None]
            dice.append((2 * hit / np.maximum(taken + inside[-1], 1)).max())
    dice = np.reshape(dice, (-1, len(ORGANS)))
    assert (dice.mean(0)[1:] < 0.6).all()  # kidneys and spleen
    assert dice.mean(0)[0] < 0.8  # the liver, the largest organ by far


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_organs_differ_from_what_lies_around_them(phantoms, contrast):
    """So that they can be learnt: the mean edge at an organ's surface is several times that of the texture."""
    for organ, value in ORGANS.items():
        steps = []
        for image, label in phantoms[contrast]:
            inside = label == value
            edge = inside[:, 1:] != inside[:, :-1]
            within = inside[:, 1:] & inside[:, :-1]
            step = np.abs(np.diff(image, axis=1))
            steps.append(step[edge].mean() / step[within].mean())
        assert np.mean(steps) > 1.5, organ


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_superpixels_cover_the_body_and_no_air(phantoms, contrast):
    settings = SuperpixelSettings.for_patch(SMALL[1:])
    for image, label in phantoms[contrast]:
        intensities = intensity_range(image[None])
        for z in (2, 6, 9):
            found = felzenszwalb_superpixels(image[z], settings, intensities)
            assert (found[label[z] > 0] > 0).mean() > 0.99
            assert not found[[0, -1]].any() and not found[:, [0, -1]].any()
            sizes = np.bincount(found.ravel())[1:]
            assert len(sizes) > 8 and sizes.min() >= settings.min_size and sizes.max() < 0.75 * sizes.sum()


def test_equal_seeds_give_equal_scans_and_others_do_not(phantoms):
    again = organ_phantom(np.random.default_rng(SEEDS[0]), "ct", SMALL)
    np.testing.assert_array_equal(again.image, phantoms["ct"][0].image)
    assert not np.array_equal(phantoms["ct"][0].label, phantoms["ct"][1].label)


def test_the_grid_has_one_extent_whatever_its_voxels_are():
    assert spacing_of(SHAPE) == (9.0, 2.5, 3.0)
    volumes = []
    for shape in (SMALL, (18, 72, 80)):
        label = organ_phantom(np.random.default_rng(3), "ct", shape).label
        volumes.append([(label == value).sum() * np.prod(spacing_of(shape)) for value in ORGANS.values()])
    np.testing.assert_allclose(*volumes, rtol=0.15)
    np.testing.assert_allclose(np.multiply(spacing_of(SMALL), SMALL), EXTENT)


@pytest.mark.parametrize(
    "contrast, shape, message",
    [("pet", SMALL, "no contrast 'pet': take one of ct, mr"), ("ct", (4, 64, 64), "4×64×64 voxels may lose an organ")],
)
def test_what_cannot_be_is_a_sentence(contrast, shape, message):
    with pytest.raises(XModalError, match=message):
        organ_phantom(np.random.default_rng(0), contrast, shape)


def test_dataset_in_raw_format_and_cases_that_do_not_depend_on_their_number(tmp_path):
    folder = tmp_path / "Dataset970_Organs"
    write_organ_dataset(folder, cases=2, seed=3, contrast="both", shape=SMALL, test_cases=1)
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["labels"] == LABELS and dataset["numTraining"] == 2 and list(dataset["channel_names"]) == ["0"]
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.nii.gz"))
    assert names == sorted(
        f"{name}.nii.gz"
        for split, case in (("Tr", "organs_tr000"), ("Tr", "organs_tr001"), ("Ts", "organs_ts000"))
        for name in (f"images{split}/{case}_0000", f"labels{split}/{case}")
    )
    first, second = (sitk.ReadImage(str(folder / f"imagesTr/organs_tr00{n}_0000.nii.gz")) for n in range(2))
    assert first.GetSpacing() == pytest.approx(spacing_of(SMALL)[::-1])
    low = [sitk.GetArrayFromImage(image).min() for image in (first, second)]
    assert low[0] < -900 and low[1] > 0  # a CT, then an MR
    write_organ_dataset(tmp_path / "one", cases=1, seed=3, contrast="ct", shape=SMALL)
    again = sitk.ReadImage(str(tmp_path / "one/imagesTr/organs_tr000_0000.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(again))
