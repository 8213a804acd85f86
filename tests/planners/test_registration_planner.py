"""Plans for registration: every organ fits into the grid, whatever was rounded, and nothing touches intensities."""

import json
from itertools import product

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.planners import planner_class

DATASET = "Dataset400_Written"
CASES = {  # shape of the cropped image, spacing, bounding box: voxels along z, y, x
    "small": ((26, 160, 150), (3.0, 0.6, 0.6), (11, 60, 70)),
    "tall": ((61, 64, 67), (1.7, 1.3, 1.3), (30, 25, 30)),
    "wide": ((20, 90, 80), (4.0, 1.1, 0.9), (8, 31, 61)),
}


@pytest.fixture
def plan(nnunet_folders):
    """`(cases, labels, channels, planner's options)` → plans, from labels on disk and a written fingerprint."""

    def write(cases=CASES, labels=None, channels=("T2", "US"), **options) -> dict:
        raw, preprocessed = (nnunet_folders / name / DATASET for name in ("nnUNet_raw", "nnUNet_preprocessed"))
        raw.mkdir(exist_ok=True)
        preprocessed.mkdir(exist_ok=True)
        for number, (case, (shape, spacing, box)) in enumerate(cases.items()):
            array = np.zeros(shape, np.uint8)
            begin = [(whole - side) // 2 for whole, side in zip(shape, box)]
            array[tuple(slice(low, low + side) for low, side in zip(begin, box))] = 1 + number % 2
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(spacing[::-1])
            sitk.WriteImage(image, str(raw / f"{case}.nii.gz"))
        dataset_json = {
            "channel_names": {str(index): name for index, name in enumerate(channels)},
            "labels": labels or {"background": 0, "gland": 1, "zone": 2},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "SimpleITKIO",
            "dataset": {case: {"images": ["any.nii.gz"], "label": f"{case}.nii.gz"} for case in cases},
        }
        fingerprint = {
            "spacings": [spacing for _, spacing, _ in cases.values()],
            "shapes_after_crop": [shape for shape, _, _ in cases.values()],
            "median_relative_size_after_cropping": 0.6,
            "foreground_intensity_properties_per_channel": {"0": {"mean": 0.0}, "1": {"mean": 0.0}},
        }
        (raw / "dataset.json").write_text(json.dumps(dataset_json))
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
        return planner_class("RegistrationPlanner")(DATASET, **options).plan_experiment()

    return write


@pytest.mark.parametrize("grid", [(32, 96, 96), (16, 48, 48), (64, 80, 64), (7, 31, 9)], ids=str)
def test_every_bounding_box_and_its_margins_fit_behind_rounding_and_no_finer_than_that(plan, grid):
    configuration = plan(grid=grid)["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == configuration["architecture"]["arch_kwargs"]["grid"] == list(grid)
    filled = []
    for shape, spacing, box in CASES.values():
        new_shape = compute_new_shape(shape, spacing, configuration["spacing"])
        effective = np.multiply(spacing, shape) / new_shape
        filled.append(1.6 * np.multiply(box, spacing) / (effective * grid))
    filled = np.array(filled)
    assert (filled < 1 + 1e-6).all()
    assert (filled.max(0) > 0.85).all()  # per axis


def test_the_papers_grid_and_batch_are_the_defaults(plan):
    configuration = plan()["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == [32, 96, 96] and configuration["batch_size"] == 8


def test_a_small_memory_target_and_a_large_grid_make_a_smaller_batch(plan):
    sizes = [
        plan(grid=grid, gpu_memory_target_in_gb=gb)["configurations"]["3d_fullres"]["batch_size"]
        for grid, gb in (((32, 96, 96), 0.5), ((96, 256, 256), 8), ((96, 256, 256), 0.5))
    ]
    assert sizes == [3, 2, 2]


@pytest.mark.parametrize("names", list(product(("CT", "noNorm", "T2"), ("US", "rescale_to_0_1"))), ids=str)
def test_intensities_stay_whatever_channels_are_called(plan, names):
    configuration = plan(channels=names)["configurations"]["3d_fullres"]
    assert configuration["normalization_schemes"] == ["NoNormalization"] * 2
    assert configuration["use_mask_for_norm"] == [False] * 2


def test_plans_that_nnunet_reads_with_one_configuration_of_their_own(plan, nnunet_folders):
    plan()
    file = nnunet_folders / "nnUNet_preprocessed" / DATASET / "nnUNetRegistrationPlans.json"
    manager = PlansManager(str(file))
    assert manager.available_configurations == ["3d_fullres"]
    assert manager.transpose_forward == manager.transpose_backward == [0, 1, 2]
    configuration = manager.get_configuration("3d_fullres")
    assert configuration.data_identifier == "nnUNetRegistrationPlans_3d_fullres"
    assert configuration.preprocessor_class.__name__ == "DefaultPreprocessor"
    for what in ("data", "seg", "probabilities"):
        assert configuration.configuration[f"resampling_fn_{what}_kwargs"]["force_separate_z"] is False
    assert configuration.network_arch_class_name == "nnunet_xmodal.networks.attention_reg.AttentionReg"
    assert (file.parent / "dataset.json").is_file()


def test_a_name_and_a_spacing_of_the_users(plan, nnunet_folders, capsys):
    plans = plan(plans_name="MyPlans", overwrite_target_spacing=[2.0, 1.0, 1.5], grid=(40, 80, 60))
    assert plans["configurations"]["3d_fullres"]["spacing"] == [2.0, 1.0, 1.5]
    assert plans["configurations"]["3d_fullres"]["data_identifier"] == "MyPlans_3d_fullres"
    assert (nnunet_folders / "nnUNet_preprocessed" / DATASET / "MyPlans.json").is_file()
    assert "does not fit into the grid [40, 80, 60] in 1 cases, for example tall" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        ({"channels": ("T2",)}, r"takes two channels, .* dataset.json has 1 \(T2\)"),
        ({"channels": ("T2", "US", "ADC")}, "has 3"),
        ({"labels": {"background": 0}}, "names no label but background"),
        ({"labels": {"background": 0, "bone": 7}}, "the label of small is empty"),
        ({"labels": {"background": 0, "zone": 2}}, "the label of small is empty"),
        ({"grid": (2, 96, 96)}, "at least 4×8×8 voxels .* is 2×96×96: plan with a larger --grid"),
        (
            {
                "cases": {**CASES, "flat": ((3, 64, 64), (1.0, 1.0, 1.0), (2, 20, 20))},
                "grid": (8, 32, 32),
            },
            "takes steps of 10.2 1.8 2.74 mm .* the flattest image has 3 64 64 mm: leave flat images out",
        ),
        ({"cases": {"flat": ((1, 64, 64), (3.0, 1.0, 1.0), (1, 20, 20))}}, "flat has 1×64×64 voxels"),
        (
            {"cases": {"one": ((20, 64, 64), (3.0, 1.0, 1.0), (1, 20, 20))}},
            "one has 20×64×64 voxels, its label 1×20×20",
        ),
    ],
)
def test_what_cannot_be_planned_is_a_sentence(plan, options, message):
    with pytest.raises(XModalError, match=message):
        plan(**options)


def test_it_is_refused_before_anything_is_written(tmp_path):
    """The command asks the planner before nnU-Net's fingerprint."""
    file = tmp_path / "case.nii.gz"
    dataset_json = {"channel_names": {"0": "MR", "1": "US"}, "labels": {"background": 0, "organ": 1}}
    sitk.WriteImage(sitk.Image(16, 16, 8, sitk.sitkUInt8), str(file))
    check = planner_class("RegistrationPlanner").check_raw
    with pytest.raises(XModalError, match="the label of case is empty"):
        check(dataset_json | {"file_ending": ".nii.gz"}, [Case("case", [], file)])
    with pytest.raises(XModalError, match="case.nii.gz has the value 0 everywhere: there is nothing to register"):
        check(dataset_json | {"file_ending": ".nii.gz"}, [Case("case", [file], file)])
    with pytest.raises(XModalError, match="takes two channels"):
        check(dataset_json | {"channel_names": {"0": "MR"}}, [])
    with pytest.raises(XModalError, match="at least 4×8×8 voxels"):
        check(dataset_json, [], grid=(2, 96, 96))
