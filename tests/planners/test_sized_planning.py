"""`--patch` and `--base_width`: what is planned with them, and what is refused; no image is read."""

import json
from functools import partial
from math import prod

import pytest
import torch
from fast_ones import one_fast_in
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import planning
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.planners import planner_class
from nnunet_xmodal.planners.sized_planning import SizedPlanning, can_be_sized, sized, sized_name
from nnunet_xmodal.planning_request import PlanRequest

DATASET = "Dataset400_Written"
STOCK = ("ExperimentPlanner", "nnUNetPlannerResEncM")
OURS = ("XModalPlanner", "XModalResEncPlannerM")
SMALL = ("ExperimentPlanner", "XModalPlanner")


@pytest.fixture
def plan(nnunet_folders):
    """`(planner, patch, base_width, …)` → plans of a dataset of which nothing but descriptions exists."""

    def plan(name="ExperimentPlanner", shape=(138, 170, 138), spacing=(1.0, 1.0, 1.0), **options):
        raw, preprocessed = (nnunet_folders / folder / DATASET for folder in ("nnUNet_raw", "nnUNet_preprocessed"))
        raw.mkdir(exist_ok=True)
        preprocessed.mkdir(exist_ok=True)
        intensity = {"mean": 0.0, "median": 0.0, "std": 1.0, "min": -1.0, "max": 1.0}
        intensity |= {"percentile_00_5": -1.0, "percentile_99_5": 1.0}
        dataset_json = {
            "channel_names": {str(index): name for index, name in enumerate(("T1", "T1c", "T2", "FLAIR"))},
            "labels": {"background": 0, "oedema": 1, "core": 2, "enhancing": 3},
            "numTraining": 484,
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "SimpleITKIO",
            "dataset": {"case": {"images": ["any.nii.gz"] * 4, "label": "any.nii.gz"}},
            "xmodal": {"streams": [["T1", "T1c"], ["T2", "FLAIR"]]},
        }
        fingerprint = {
            "spacings": [list(spacing)] * 484,
            "shapes_after_crop": [list(shape)] * 484,
            "median_relative_size_after_cropping": 0.6,
            "foreground_intensity_properties_per_channel": {str(channel): intensity for channel in range(4)},
        }
        (raw / "dataset.json").write_text(json.dumps(dataset_json))
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
        with torch.device("meta"):
            return sized(planner_class(name))(DATASET, **options).plan_experiment()

    return plan


def of_two_streams(configuration, plans):
    manager = PlansManager(plans).get_configuration(configuration)
    with torch.device("meta"):
        return UNetPlan.from_configuration(manager, 4, 4, False, [[0, 1], [2, 3]])


@pytest.mark.parametrize("name", [*STOCK, *OURS])
def test_the_papers_patch_and_width(plan, name):
    plans = plan(name, patch=(128, 128, 128), base_width=16)
    for configuration, patch, largest in (("3d_fullres", [128] * 3, 320), ("2d", [128] * 2, 512)):
        made = plans["configurations"][configuration]
        assert list(made["patch_size"]) == patch and made["batch_size"] >= 2
        kwargs = made["architecture"]["arch_kwargs"]
        widths = list(kwargs["features_per_stage"])
        assert widths == [min(largest, 16 * 2**level) for level in range(len(widths))]
        lengths = {len(kwargs[key]) for key in kwargs if key in ("strides", "kernel_sizes", "features_per_stage")}
        assert lengths == {kwargs["n_stages"]} == {len(kwargs["n_conv_per_stage_decoder"]) + 1} == {6}
        of_two_streams(configuration, plans)  # raises where the patch does not fit the levels
    assert plans["experiment_planner_used"] == name
    assert list(plans["configurations"]["3d_fullres"]["median_image_size_in_voxels"]) == [138, 170, 138]


@pytest.mark.parametrize("name", one_fast_in(2, SMALL))
def test_what_nnunet_would_plan_anyway_is_planned_the_same(plan, name):
    """Its own patch, given back to it: levels, batch and all else are as they were."""
    usual = plan(name)["configurations"]
    for configuration in ("2d", "3d_fullres"):
        again = plan(name, patch=tuple(usual[configuration]["patch_size"]))["configurations"][configuration]
        assert json.dumps(again, default=list) == json.dumps(usual[configuration], default=list)


@pytest.mark.parametrize("name", one_fast_in(2, SMALL))
def test_two_numbers_are_for_2d_alone_and_a_width_for_all(plan, name):
    usual = plan(name)["configurations"]
    made = plan(name, patch=(96, 64))["configurations"]
    assert list(made["2d"]["patch_size"]) == [96, 64]
    assert list(made["3d_fullres"]["patch_size"]) == list(usual["3d_fullres"]["patch_size"])
    narrow = plan(name, base_width=8)["configurations"]
    for configuration in ("2d", "3d_fullres"):
        assert narrow[configuration]["architecture"]["arch_kwargs"]["features_per_stage"][0] == 8
        size = narrow[configuration]["batch_size"] * prod(narrow[configuration]["patch_size"])
        assert size > usual[configuration]["batch_size"] * prod(usual[configuration]["patch_size"])


def test_an_anisotropic_patch_has_the_levels_of_its_spacing(plan):
    made = plan(shape=(20, 300, 300), spacing=(5.0, 1.0, 1.0), patch=(16, 128, 96))["configurations"]["3d_fullres"]
    assert list(made["patch_size"]) == [16, 128, 96]
    strides = made["architecture"]["arch_kwargs"]["strides"]
    assert [tuple(stride) for stride in strides[:3]] == [(1, 1, 1), (1, 2, 2), (1, 2, 2)]


def test_iso_compute_divides_the_width_that_is_given(plan):
    plans = plan("XModalPlanner", iso_compute=True, patch=(64, 64, 64), base_width=16)
    assert plans["plans_name"] == "nnUNetXModalIsoPatch64x64x64Width16Plans"
    kwargs = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"] == [8, 16, 32, 64, 128]
    with torch.device("meta"):
        architecture = plans["configurations"]["3d_fullres"]["architecture"]
        get_network_from_plans(
            architecture["network_class_name"], kwargs, architecture["_kw_requires_import"], 4, 4, allow_init=False
        )


def test_plans_have_a_name_of_their_own_and_share_the_data(plan):
    plans = plan(patch=(64, 64, 64), base_width=16)
    assert plans["plans_name"] == "nnUNetPatch64x64x64Width16Plans"
    for configuration in ("2d", "3d_fullres"):
        assert plans["configurations"][configuration]["data_identifier"] == f"nnUNetPlans_{configuration}"
    assert plan(base_width=16, plans_name="mine")["configurations"]["2d"]["data_identifier"] == "nnUNetPlans_2d"
    assert sized_name("mine", (96, 64), None) == "minePatch96x64"


@pytest.mark.parametrize("planner, options", [("XModalPlanner", {}), ("ExperimentPlanner", {"base_width": 16})])
@pytest.mark.parametrize("spacing", [[2.0, 1.0, 1.0], [1.0, 2.0, 1.0]])
def test_another_spacing_has_data_of_its_own_in_2d_too(plan, planner, options, spacing):
    """nnU-Net takes the spacing of slices, and which axis counts them, from that of 3d_fullres."""
    plans = plan(planner, overwrite_target_spacing=spacing, **options)
    for configuration in ("2d", "3d_fullres"):
        identifier = plans["configurations"][configuration]["data_identifier"]
        assert identifier == f"{plans['plans_name']}_{configuration}"


@pytest.mark.parametrize("planner, options", [("XModalPlanner", {}), ("ExperimentPlanner", {"base_width": 16})])
@pytest.mark.parametrize("name, value", [("spacing", [1.0, 1.5]), ("normalization_schemes", ["CTNormalization"] * 2)])
def test_data_of_other_plans_are_not_replaced_where_they_are_others(
    plan, nnunet_folders, planner, options, name, value
):
    plan()
    file = nnunet_folders / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json"
    usual = json.loads(file.read_text())
    assert plan(planner, **options)["configurations"]["2d"]["data_identifier"] == "nnUNetPlans_2d"
    usual["configurations"]["2d"][name] = value
    file.write_text(json.dumps(usual))
    made = plan(planner, **options)
    assert made["configurations"]["2d"]["data_identifier"] == f"{made['plans_name']}_2d"
    assert made["configurations"]["3d_fullres"]["data_identifier"] == "nnUNetPlans_3d_fullres"
    file.write_text(json.dumps(usual)[:100])  # cut off, as a full disk leaves it
    assert plan(planner, **options)["configurations"]["2d"]["data_identifier"] == "nnUNetPlans_2d"


def test_a_low_resolution_is_planned_with_the_patch(plan):
    made = plan(shape=(300, 400, 400), patch=(64, 96, 96), base_width=16)["configurations"]
    lowres = made["3d_lowres"]
    assert list(lowres["patch_size"]) == [64, 96, 96]
    assert lowres["data_identifier"] == "nnUNetPatch64x96x96Width16Plans_3d_lowres"


def test_a_patch_beyond_the_images_is_told(plan, capsys):
    plan(shape=(40, 60, 60), patch=(64, 64, 64))
    assert "The patch 64 64 64 is larger than the median image, 40 60 60 voxels" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        ({"patch": (100, 128, 128)}, r"--patch 100 128 128 cannot be halved .* in 3d .*: take --patch 112 128 128"),
        ({"patch": (100, 90)}, r"--patch 100 90 cannot be halved .* in 2d .*: take --patch 112 96"),
        ({"patch": (12, 12, 12)}, "--patch 12 12 12 is too small for a U-Net: .* a side of at least 16 voxels"),
        ({"patch": (256, 256, 256)}, r"by nnU-Net's reckoning a batch of 2 needs \d+(\.\d)? GB, and 8 GB are planned"),
        ({"patch": (128,)}, "--patch takes three positive numbers Z Y X, or two for 2d, Y X, and got 128:"),
        ({"patch": (128, 0, 128)}, "three positive numbers"),
        ({"patch": (1, 2, 3, 4)}, "three positive numbers"),
        ({"base_width": 0}, "--base_width takes a positive number of channels, e.g. 16, and got 0"),
        ({"base_width": 400}, "--base_width 400 is more than the 320 channels .* in 3d: take at most 320"),
    ],
)
@pytest.mark.parametrize("name", SMALL)
def test_what_is_impossible_is_a_sentence_and_no_plans_are_written(plan, nnunet_folders, name, options, message):
    with pytest.raises(XModalError, match=message):
        plan(name, **options)
    assert not list((nnunet_folders / "nnUNet_preprocessed" / DATASET).glob("*Plans.json"))


def test_a_patch_that_is_proposed_is_accepted(plan):
    for patch in ((100, 128, 128), (33, 65, 127), (9, 17, 250)):
        with pytest.raises(XModalError, match="take --patch") as refused:
            plan(patch=patch, base_width=4)
        proposed = str(refused.value).split("take --patch ")[1].split(",")[0]
        plan(patch=[int(side) for side in proposed.split()], base_width=4)


@pytest.mark.parametrize(
    "name, patch, base_width, message",
    [
        (
            "RegistrationPlanner",
            [32, 32, 32],
            None,
            "--patch does not apply to RegistrationPlanner: take one of X",
        ),
        ("FewShotPlanner", None, 16, "--base_width does not apply to FewShotPlanner: .*, or one of nnU-Net's own"),
        ("ReconstructionPlanner", None, 16, "--base_width does not apply to ReconstructionPlanner"),
        ("ReconstructionUNetPlanner", [64, 64], None, "--patch takes three numbers Z Y X for Reconstruc.*, and got 2"),
    ],
)
def test_planners_without_such_a_network_say_so(name, patch, base_width, message):
    with pytest.raises(XModalError, match=message):
        planning.check_planner(PlanRequest([999], name, patch=patch, base_width=base_width))


def test_the_command_leaves_to_a_planner_what_is_its_own():
    def made_with(name: str) -> partial:
        request = PlanRequest([999], name, patch=[32, 64, 64])
        planning.check_planner(request)
        return planning.planner_with_options(request, streams=None)

    for name in ("ReconstructionPlanner", "XModalPlanner"):
        assert made_with(name).func is planner_class(name)
    sized_by_us = made_with("ExperimentPlanner")
    assert issubclass(sized_by_us.func, SizedPlanning) and issubclass(sized_by_us.func, ExperimentPlanner)
    for name in ("ReconstructionPlanner", "XModalPlanner", "ExperimentPlanner"):
        assert made_with(name).keywords == {"patch": [32, 64, 64]}
    assert can_be_sized(planner_class("nnUNetPlannerResEncL")) and not can_be_sized(planner_class("FewShotPlanner"))
