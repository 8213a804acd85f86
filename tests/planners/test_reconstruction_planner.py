"""Plans for reconstruction: physical units stay, patches fit, and the target is named."""

import json
import re

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.planners import planner_class

DATASET = "Dataset400_Written"
LARGE = [((50, 180, 160), (2.0, 1.0, 1.0))] * 3
BOTH = pytest.mark.parametrize("planner", ["ReconstructionPlanner", "ReconstructionUNetPlanner"])


@pytest.fixture
def plan(nnunet_folders):
    """`(shapes and spacings, channels, dataset.json's xmodal, planner's options)` → plans."""

    def write(images=LARGE, channels=("field", "chi"), labels=None, planner="ReconstructionPlanner", entry=None,
              **options):  # fmt: skip
        raw, preprocessed = (nnunet_folders / name / DATASET for name in ("nnUNet_raw", "nnUNet_preprocessed"))
        raw.mkdir(exist_ok=True)
        preprocessed.mkdir(exist_ok=True)
        sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkFloat32), str(raw / "any.nii.gz"))
        dataset_json = {
            "channel_names": {str(index): name for index, name in enumerate(channels)},
            "labels": labels or {"background": 0, "brain": 1},
            "numTraining": len(images),
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "SimpleITKIO",
            "dataset": {f"case{n}": {"images": ["any.nii.gz"], "label": "any.nii.gz"} for n in range(len(images))},
        }
        if entry is not None:
            dataset_json["xmodal"] = entry
        fingerprint = {
            "spacings": [spacing for _, spacing in images],
            "shapes_after_crop": [shape for shape, _ in images],
            "median_relative_size_after_cropping": 0.6,
            "foreground_intensity_properties_per_channel": {str(n): {"std": 0.1} for n in range(len(channels))},
        }
        (raw / "dataset.json").write_text(json.dumps(dataset_json))
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
        return planner_class(planner)(DATASET, **options).plan_experiment()

    return write


@pytest.mark.parametrize("names", [("CT", "T1"), ("noNorm", "CT", "rescale_to_0_1")], ids=str)
@BOTH
def test_intensities_and_axes_stay_and_the_last_channel_is_the_target(plan, nnunet_folders, planner, names):
    plans = plan(channels=names, planner=planner)
    file = nnunet_folders / "nnUNet_preprocessed" / DATASET / f"{plans['plans_name']}.json"
    manager = PlansManager(str(file))
    assert manager.available_configurations == ["3d_fullres"]
    assert manager.transpose_forward == manager.transpose_backward == [0, 1, 2]
    assert manager.plans["xmodal"] == {"target_channel": len(names) - 1, "outputs": 1}
    configuration = manager.get_configuration("3d_fullres")
    assert configuration.normalization_schemes == ["NoNormalization"] * len(names)
    assert configuration.use_mask_for_norm == [False] * len(names)
    assert configuration.spacing == [2.0, 1.0, 1.0]
    for what in ("data", "seg", "probabilities"):
        assert configuration.configuration[f"resampling_fn_{what}_kwargs"]["force_separate_z"] is False
    assert (file.parent / "dataset.json").is_file()


def test_the_papers_backbone_patch_and_batch(plan):
    configuration = plan()["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == [32, 64, 64] and configuration["batch_size"] == 16
    assert configuration["architecture"]["network_class_name"] == "nnunet_xmodal.networks.qsm_unet.QSMUNet"
    assert configuration["architecture"]["arch_kwargs"] == {"widths": [32, 64, 128, 256, 512]}


def test_nnunets_own_network_for_the_same_patch(plan):
    plans = plan(planner="ReconstructionUNetPlanner")
    configuration = plans["configurations"]["3d_fullres"]
    assert plans["plans_name"] == "nnUNetReconstructionUNetPlans"
    assert list(configuration["patch_size"]) == [32, 64, 64] and 2 <= configuration["batch_size"] <= 16
    assert configuration["architecture"]["network_class_name"].endswith("PlainConvUNet")
    assert configuration["median_image_size_in_voxels"] == [50, 180, 160]


@pytest.mark.parametrize(
    "shape, patch",
    [((20, 40, 100), [32, 48, 64]), ((5, 16, 17), [16, 16, 32]), ((9, 10, 11), [16, 16, 32])],
    ids=str,
)
def test_small_images_have_small_patches(plan, shape, patch):
    assert plan(images=[(shape, (1.0, 1.0, 1.0))])["configurations"]["3d_fullres"]["patch_size"] == patch


def test_a_patch_of_the_users_and_less_memory(plan):
    configuration = plan(patch=(16, 48, 32))["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == [16, 48, 32]
    assert plan(gpu_memory_target_in_gb=0.1)["configurations"]["3d_fullres"]["batch_size"] == 2
    configuration = plan(planner="ReconstructionUNetPlanner", patch=(24, 32, 40))["configurations"]["3d_fullres"]
    assert list(configuration["patch_size"]) == [24, 32, 40]


def test_the_median_spacing_however_anisotropic(plan):
    images = [((12, 200, 200), (6.0, 1.0, 1.0)), ((30, 200, 200), (2.0, 1.0, 1.0)), ((12, 200, 200), (6.0, 0.9, 0.9))]
    assert plan(images=images)["configurations"]["3d_fullres"]["spacing"] == [6.0, 1.0, 1.0]
    chosen = plan(images=images, overwrite_target_spacing=[3.0, 1.5, 1.5])["configurations"]["3d_fullres"]
    assert chosen["spacing"] == [3.0, 1.5, 1.5]


def test_what_is_known_about_the_field(plan):
    entry = {"target": "chi", "field": {"unit": "Hz", "B0": 3.0}}
    expected = {"unit": "Hz", "B0": 7.0, "TE": None, "direction": [0.0, 1.0, 0.0]}
    assert plan(entry=entry, B0=7.0, b0_direction=[0.0, 1.0, 0.0])["xmodal"]["field"] == expected
    assert plan(field_unit="rad", B0=3.0, TE=0.02)["xmodal"]["field"]["TE"] == 0.02


@pytest.mark.parametrize(
    "options, message",
    [
        ({"channels": ("field",)}, r"as the last channel, the target, and dataset.json names 1 channel \(field\)"),
        ({"labels": {"background": 0}}, "no label but background: reconstruction needs a mask"),
        ({"entry": {"target": "field"}}, "names 'field' as the target, but the last channel is chi"),
        ({"patch": (20, 64, 64)}, "--patch 20 64 64 cannot be halved 4 times"),
        ({"patch": (16, 16, 16)}, "at least one of them larger"),
        ({"planner": "ReconstructionUNetPlanner", "patch": (4, 64, 64)}, "--patch 4 64 64 is too small for a U-Net"),
        ({"field_unit": "Hz"}, r"needs the strength of the main field \(B0\)"),
        ({"images": [((1, 64, 64), (3.0, 1.0, 1.0))]}, "an image of 1×64×64 voxels: reconstruction works on volumes"),
    ],
)
def test_what_cannot_be_planned_is_a_sentence(plan, options, message):
    with pytest.raises(XModalError, match=message):
        plan(**options)


@pytest.mark.parametrize(
    "patch, image",
    [((36, 36, 36), (2.0, 1.0, 1.0)), ((12, 100, 100), (2.0, 1.0, 1.0)), ((64, 64, 64), (10.0, 0.5, 0.5))],
)
def test_a_patch_that_nnunets_network_cannot_have_is_told_with_one_that_it_can(plan, patch, image):
    options = {"planner": "ReconstructionUNetPlanner", "images": [((80, 400, 400), image)]}
    with pytest.raises(XModalError, match="none that nnU-Net's network can halve .*: take --patch") as refused:
        plan(patch=patch, **options)
    proposed = tuple(map(int, re.search(r"take --patch (\d+) (\d+) (\d+)", str(refused.value)).groups()))
    assert tuple(plan(patch=proposed, **options)["configurations"]["3d_fullres"]["patch_size"]) == proposed


def test_an_empty_mask_is_named_before_planning(tmp_path):
    dataset_json = {"channel_names": {"0": "field", "1": "chi"}, "labels": {"background": 0, "brain": 1},
                    "file_ending": ".nii.gz"}  # fmt: skip
    cases = []
    for name, inside in (("good", 1), ("bad", 0)):
        mask = np.full((3, 4, 5), inside, np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(mask), str(tmp_path / f"{name}.nii.gz"))
        cases.append(Case(name, [], tmp_path / f"{name}.nii.gz"))
    planner = planner_class("ReconstructionPlanner")
    planner.check_raw(dataset_json, cases[:1])
    with pytest.raises(XModalError, match="the mask .*bad.nii.gz is empty: draw the brain"):
        planner.check_raw(dataset_json, cases)
    ignored = dataset_json | {"labels": {"background": 0, "brain": 2, "ignore": 1}}
    with pytest.raises(XModalError, match="the mask .*good.nii.gz is empty: draw the brain"):
        planner.check_raw(ignored, cases[:1])
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((1, 4, 5), np.uint8)), str(tmp_path / "flat.nii.gz"))
    with pytest.raises(XModalError, match="flat has an image of 1×4×5 voxels: reconstruction works on volumes"):
        planner.check_raw(dataset_json, [Case("flat", [], tmp_path / "flat.nii.gz")])
    with pytest.raises(XModalError, match="--patch 8 8 8"):
        planner.check_raw(dataset_json, cases[:1], patch=(8, 8, 8))
