"""Metrics of a case: nnU-Net's own numbers, a case worked out by hand, and that cropping changes nothing."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from scipy.ndimage import gaussian_filter

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.case_metrics import MetricSettings, case_metrics
from nnunet_xmodal.evaluation.lesions import lesion_metrics
from nnunet_xmodal.evaluation.metrics import SEGMENTATION_METRICS
from nnunet_xmodal.evaluation.surface_distance import surface_distances

REGIONS = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}


def _label_maps(shape=(12, 20, 18), seed=0, top=3):
    """A prediction and a reference with labels 0 … top that resemble each other, background in the majority."""
    rng = np.random.default_rng(seed)
    common, *own = (gaussian_filter(rng.standard_normal(shape), 1.5) for _ in range(3))
    fields = [common + 0.6 * noise for noise in own]
    return [np.digitize(field, np.quantile(field, np.linspace(0.6, 0.95, top))).astype(np.uint8) for field in fields]


@pytest.mark.parametrize("ignore_label", [None, 4])
def test_dice_and_iou_are_nnunets(tmp_path, ignore_label):
    prediction, reference = _label_maps()
    if ignore_label:
        reference[3:6, 4:15] = ignore_label
    files = [str(tmp_path / f"{name}.nii.gz") for name in ("reference", "prediction")]
    for file, label_map in zip(files, (reference, prediction)):
        image = sitk.GetImageFromArray(label_map)
        image.SetSpacing((0.5, 0.75, 2.0))
        sitk.WriteImage(image, file)
    expected = compute_metrics(*files, SimpleITKIO(), [1, *REGIONS.values()], ignore_label)["metrics"]
    found = case_metrics(prediction, reference, (2.0, 0.75, 0.5), {"edema": (1,), **REGIONS}, ignore_label)
    for label, of_nnunet in zip(found, expected.values()):
        tp, fp, fn, tn = (int(of_nnunet[name]) for name in ("TP", "FP", "FN", "TN"))
        assert found[label]["Dice"] == pytest.approx(of_nnunet["Dice"], abs=1e-12)
        assert found[label]["IoU"] == pytest.approx(of_nnunet["IoU"], abs=1e-12)
        assert found[label]["specificity"] == pytest.approx(tn / (tn + fp), abs=1e-12)
        assert found[label]["sensitivity"] == pytest.approx(tp / (tp + fn), abs=1e-12)
        assert found[label]["volume_ml"] == pytest.approx(of_nnunet["n_pred"] * 0.75e-3)
        assert found[label]["reference_volume_ml"] == pytest.approx(of_nnunet["n_ref"] * 0.75e-3)


def test_by_hand():
    # two slices of 2×3 in a volume of 4×5×6 with voxels of 1×2×3 mm; the prediction is the same box one row on
    prediction, reference = np.zeros((2, 4, 5, 6), int)
    reference[1:3, 1:3, 1:4] = 7
    prediction[1:3, 2:4, 1:4] = 7
    found = case_metrics(prediction, reference, (1, 2, 3), {"lesion": (7,)}, None, MetricSettings(nsd_tolerance_mm=1))
    assert found["lesion"] == pytest.approx(
        {
            "Dice": 0.5,
            "IoU": 6 / 18,
            "sensitivity": 0.5,
            "precision": 0.5,
            "specificity": 102 / 108,
            "VOE": 12 / 18,
            "RVD": 0,
            "abs_RVD": 0,
            "HD95": 2,
            "ASSD": 1,
            "NSD": 0.5,
            "volume_ml": 0.072,
            "reference_volume_ml": 0.072,
            "lesion_sensitivity": 1,
            "lesion_precision": 1,
            "lesion_F1": 1,
            "lesion_sensitivity_IoU": 1,
            "lesion_precision_IoU": 1,
            "lesion_F1_IoU": 1,
            "lesions": 1,
            "reference_lesions": 1,
        }
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_each_metric_is_that_of_the_whole_volume(dtype):
    prediction, reference = (np.pad(label_map.astype(dtype), 5) for label_map in _label_maps())
    spacing, chosen = (2.0, 0.75, 0.5), MetricSettings(nsd_tolerance_mm=0.8, lesion_iou=0.3)
    found = case_metrics(prediction, reference, spacing, REGIONS, None, chosen)
    for label, values in REGIONS.items():
        masks = [np.isin(label_map, values) for label_map in (prediction, reference)]
        distances = surface_distances(*masks, spacing)
        assert found[label]["HD95"] == pytest.approx(distances.hd95)
        assert found[label]["ASSD"] == pytest.approx(distances.assd)
        assert found[label]["NSD"] == pytest.approx(distances.nsd(0.8))
        expected = lesion_metrics(*masks, 0.3)
        assert {name: found[label][name] for name in expected} == expected


def test_all_metrics_of_all_labels_in_their_order_as_plain_numbers():
    found = case_metrics(*_label_maps(), (1, 1, 1), REGIONS)
    assert list(found) == list(REGIONS)
    for values in found.values():
        assert list(values) == list(SEGMENTATION_METRICS)
        assert {type(value) for value in values.values()} == {float}


def test_ignored_voxels_count_for_nothing():
    prediction, reference = _label_maps()
    reference[:, :9] = 9
    found = case_metrics(prediction, reference, (1, 1, 1), REGIONS, 9)
    assert found == case_metrics(np.where(reference == 9, 3, prediction), reference, (1, 1, 1), REGIONS, 9)
    # what is left is the lower half alone
    assert found == case_metrics(prediction[:, 9:], reference[:, 9:], (1, 1, 1), REGIONS)


def test_a_region_may_hold_the_background():
    prediction, reference = (np.pad(label_map, 4) for label_map in _label_maps())
    found = case_metrics(prediction, reference, (1, 1, 1), {"not enhancing": (0, 1, 2), "enhancing": (3,)})
    assert found["not enhancing"]["sensitivity"] == found["enhancing"]["specificity"]
    assert found["not enhancing"]["volume_ml"] == pytest.approx((prediction != 3).sum() / 1000)


def test_an_image_of_two_dimensions_as_nnunet_reads_it():
    prediction, reference = _label_maps((30, 31))
    expected = case_metrics(prediction, reference, (0.5, 0.5), REGIONS)
    assert case_metrics(prediction[None], reference[None], (999, 0.5, 0.5), REGIONS) == expected
    assert expected["whole"]["HD95"] < 5
    assert expected["whole"]["volume_ml"] == pytest.approx((prediction > 0).sum() * 0.25e-3)


def test_a_lesion_of_one_slice_is_not_an_image_of_one_slice():
    prediction, reference = np.zeros((2, 4, 9, 9), np.uint8)
    reference[1, 2:7, 2:7] = prediction[1, 2:7, 2:6] = 1
    found = case_metrics(prediction, reference, (1, 1, 1), {"a": (1,)})["a"]
    # all voxels are surface: 20 on both, and 5 of the reference beside them
    assert found["ASSD"] == pytest.approx(5 / 45)


def test_empty_masks():
    some, empty = np.zeros((2, 4, 5, 6), np.uint8)
    some[1:3, 1:3, 1:3] = 1

    def undefined(prediction, reference):
        found = case_metrics(prediction, reference, (1, 1, 1), {"a": (1,)})["a"]
        return {name for name, value in found.items() if math.isnan(value)}, found

    lesions = {"lesion_sensitivity", "lesion_sensitivity_IoU"}
    names, found = undefined(some, empty)
    assert names == {"sensitivity", "RVD", "abs_RVD", "HD95", "ASSD"} | lesions
    assert (found["Dice"], found["VOE"], found["NSD"], found["specificity"]) == (0, 1, 0, 112 / 120)
    names, found = undefined(empty, some)
    assert names == {"precision", "HD95", "ASSD", "lesion_precision", "lesion_precision_IoU"}
    assert (found["RVD"], found["abs_RVD"], found["NSD"], found["lesion_F1"]) == (-1, 1, 0, 0)
    names, found = undefined(empty, empty)
    assert set(found) - names == {"specificity", "volume_ml", "reference_volume_ml", "lesions", "reference_lesions"}
    assert found["specificity"] == 1


def test_a_label_map_that_is_ignored_altogether():
    prediction, reference = np.ones((3, 4, 5), int), np.full((3, 4, 5), 2)
    found = case_metrics(prediction, reference, (1, 1, 1), {"a": (1,)}, 2)["a"]
    assert found["volume_ml"] == found["reference_volume_ml"] == 0
    assert math.isnan(found["specificity"])


def test_other_grids_are_refused():
    with pytest.raises(XModalError, match="3×4×5 voxels, the reference 3×4×6"):
        case_metrics(np.zeros((3, 4, 5)), np.zeros((3, 4, 6)), (1, 1, 1), REGIONS)


@pytest.mark.parametrize("value", [-0.5, math.inf, math.nan])
def test_tolerances_that_make_no_sense(value):
    with pytest.raises(XModalError, match=f"tolerance is {value}"):
        MetricSettings(nsd_tolerance_mm=value)


@pytest.mark.parametrize("value", [0, -1, 1.5, math.nan])
def test_overlaps_that_make_no_sense(value):
    with pytest.raises(XModalError, match=f"lesions is {value}"):
        MetricSettings(lesion_iou=value)
