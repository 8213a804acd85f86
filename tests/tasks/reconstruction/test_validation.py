"""The harness: what it measures, whom it asks, and what it leaves in the folder."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.evaluation.reconstruction import DIRECTIONS, reconstruction_quality
from nnunet_xmodal.tasks.reconstruction.validation import validate_reconstruction

SHAPE, BOX = (10, 12, 14), [[2, 12], [0, 12], [1, 15]]
DIRECTION = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class InMemory:
    source_folder = "somewhere"
    identifiers = ["a", "b"]

    def load_case(self, case):
        rng = np.random.default_rng(ord(case))
        mask = np.full((1, *SHAPE), -1, np.int16)
        mask[:, 2:8, 3:10, 3:11] = 1
        properties = {
            "sitk_stuff": {"spacing": (1.0, 1.0, 2.0), "origin": (1.0, 2.0, 3.0), "direction": DIRECTION},
            "spacing": (2.0, 1.0, 1.0),
            "bbox_used_for_cropping": BOX,
            "shape_before_cropping": (15, 12, 16),
            "shape_after_cropping_and_before_resampling": SHAPE,
        }
        return rng.standard_normal((2, *SHAPE)).astype(np.float32), mask, None, properties


@pytest.fixture
def described(make_plans):
    plans = make_plans(3)
    plans["xmodal"] = {"target_channel": 1, "outputs": 1}
    plans["configurations"]["3d_fullres"]["spacing"] = [2.0, 1.0, 1.0]
    manager = PlansManager(plans)
    dataset_json = {"channel_names": {"0": "field", "1": "chi"}, "labels": {"background": 0, "brain": 1},
                    "file_ending": ".nii.gz"}  # fmt: skip
    return manager, manager.get_configuration("3d_fullres"), dataset_json


def validate(method, described, tmp_path):
    means = validate_reconstruction(method, InMemory(), ["a", "b"], *described, tmp_path, lambda line: None)
    return means, json.loads((tmp_path / "validation" / "summary.json").read_text())


def test_the_summary_is_that_of_the_contract(described, tmp_path):
    def method(case):
        return case.inputs[0] + case.target

    means, summary = validate(method, described, tmp_path)
    assert set(means) == set(summary["xmodal"]["directions"]) == set(DIRECTIONS)
    assert summary["mean"] == {"1": means} and summary["foreground_mean"] == means
    for case, content in zip("ab", summary["metric_per_case"]):
        (image, target), mask, *_ = InMemory().load_case(case)
        expected = reconstruction_quality(image + target, target, mask[0] > 0)
        assert content["metrics"]["1"] == pytest.approx(expected)
        assert content["prediction_file"].endswith(f"validation/images/{case}.nii.gz")
    assert means["RMSE_percent"] == pytest.approx(
        np.mean([content["metrics"]["1"]["RMSE_percent"] for content in summary["metric_per_case"]])
    )


def test_the_truth_has_no_error_and_lies_where_the_case_lies(described, tmp_path, drawn):
    means, _ = validate(lambda case: case.target, described, tmp_path)
    assert means["RMSE_percent"] == means["HFEN_percent"] == 0 and means["SSIM"] == pytest.approx(1)
    images = tmp_path / "validation" / "images"
    assert sorted(path.name for path in images.iterdir()) == ["a.nii.gz", "a.png", "b.nii.gz", "b.png"]
    image = sitk.ReadImage(str(images / "a.nii.gz"))
    assert image.GetOrigin() == (1.0, 2.0, 3.0) and image.GetPixelID() == sitk.sitkFloat32
    data, mask, *_ = InMemory().load_case("a")
    expected = np.zeros((15, 12, 16), np.float32)
    expected[2:12, :, 1:15] = np.where(mask[0] > 0, data[1], 0)
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), expected, atol=1e-6)
    assert not list((tmp_path / "validation").glob("*.nii.gz"))  # nnU-Net evaluates what lies there


def test_ignored_voxels_do_not_count(described, tmp_path):
    *plans, dataset_json = described
    dataset_json = dataset_json | {"labels": {"background": 0, "brain": 1, "ignore": 2}}

    class HalfIgnored(InMemory):
        def load_case(self, case):
            data, mask, *others = super().load_case(case)
            mask[:, 5:8, 3:10, 3:11] = 2
            return data, mask, *others

    def method(case):
        spoilt = case.target.copy()
        spoilt[5:8] += 100
        return spoilt

    means = validate_reconstruction(method, HalfIgnored(), ["a"], *plans, dataset_json, tmp_path, lambda line: None)
    assert means["RMSE_percent"] == 0


def test_what_a_method_makes_outside_the_mask_does_not_count(described, tmp_path):
    means, _ = validate(lambda case: np.where(case.mask, case.target, 1e6), described, tmp_path)
    assert means["RMSE_percent"] == 0
