"""Plans for multi-stream networks, from a written fingerprint: no image is read."""

import json
from math import prod

import numpy as np
import pytest
import torch
from fast_ones import one_fast_in
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_xmodal.planners import PLANNERS as ALL
from nnunet_xmodal.planners import planner_class

PLANNERS = [name for name in ALL if "streams" in planner_class(name).own_options]

DATASET = "Dataset400_Written"
CHANNELS = ("T1", "T1c", "T2", "FLAIR")


@pytest.fixture
def written(nnunet_folders):
    """`(n_cases, shape, spacing)` → a dataset of which nothing but descriptions exists."""

    def write(n_cases: int = 484, shape=(155, 240, 240), spacing=(1.0, 1.0, 1.0), **more) -> None:
        raw, preprocessed = (nnunet_folders / name / DATASET for name in ("nnUNet_raw", "nnUNet_preprocessed"))
        raw.mkdir(exist_ok=True)
        preprocessed.mkdir(exist_ok=True)
        images = [f"imagesTr/case_{channel:04d}.nii.gz" for channel in range(4)]
        dataset_json = {
            "channel_names": {str(index): name for index, name in enumerate(CHANNELS)},
            "labels": {"background": 0, "oedema": 1, "core": 2, "enhancing": 3},
            "numTraining": n_cases,
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "SimpleITKIO",
            "dataset": {"case": {"images": images, "label": "labelsTr/case.nii.gz"}},
            **more,
        }
        intensity = {"mean": 0.0, "median": 0.0, "std": 1.0, "min": -1.0, "max": 1.0}
        intensity |= {"percentile_00_5": -1.0, "percentile_99_5": 1.0}
        fingerprint = {
            "spacings": [list(spacing)] * n_cases,
            "shapes_after_crop": [list(shape)] * n_cases,
            "median_relative_size_after_cropping": 0.6,
            "foreground_intensity_properties_per_channel": {str(channel): intensity for channel in range(4)},
        }
        (raw / "dataset.json").write_text(json.dumps(dataset_json))
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))

    return write


def plan(name: str = "XModalPlanner", **options) -> dict:
    """On torch's meta device: a planner asks networks for their sizes and never for a weight."""
    planner = planner_class(name) if name != "stock" else ExperimentPlanner
    with torch.device("meta"):
        return planner(DATASET, **options).plan_experiment()


def work(configuration: dict) -> int:
    return configuration["batch_size"] * prod(configuration["patch_size"])


def network(configuration: dict, channels: int = 4):
    architecture = configuration["architecture"]
    with torch.device("meta"):
        return get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            channels,
            4,
            allow_init=False,
        )


PAIRS = [["T1", "T1c"], ["T2", "FLAIR"]]


@pytest.mark.slow
def test_plans_grow_with_the_memory_target(written):
    written()
    fullres = [plan(streams=PAIRS, gpu_memory_target_in_gb=gb)["configurations"]["3d_fullres"] for gb in (4, 8, 24)]
    voxels = [prod(configuration["patch_size"]) for configuration in fullres]
    assert voxels[0] < voxels[1] < voxels[2]
    assert all(configuration["batch_size"] >= 2 for configuration in fullres)
    flat = [plan(streams=PAIRS, gpu_memory_target_in_gb=gb)["configurations"]["2d"] for gb in (4, 8, 24)]
    assert work(flat[0]) < work(flat[1]) < work(flat[2])


@pytest.mark.parametrize("name", one_fast_in(3, PLANNERS))
def test_what_is_planned_fits_the_target_of_nnunets_planner(written, name):
    written()
    made = planner_class(name)(DATASET, streams=PAIRS)
    with torch.device("meta"):
        plans = made.plan_experiment()
    assert plans["plans_name"] == made.plans_name and plans["experiment_planner_used"] == name
    for configuration, reference, per in (
        ("3d_fullres", made.UNet_reference_val_3d, made.UNet_reference_val_corresp_bs_3d),
        ("2d", made.UNet_reference_val_2d, made.UNet_reference_val_corresp_bs_2d),
    ):
        made_of = plans["configurations"][configuration]
        size = network(made_of).compute_conv_feature_map_size(made_of["patch_size"])
        assert size * made_of["batch_size"] / per <= 1.05 * reference  # nnU-Net rounds the batch
        assert made_of["architecture"]["arch_kwargs"]["streams"] == [[0, 1], [2, 3]]


@pytest.mark.slow
def test_streams_cost_patch_size(written):
    written()
    sizes = []
    for streams in ([list(CHANNELS)], PAIRS, [[name] for name in CHANNELS]):
        sizes.append(prod(plan(streams=streams)["configurations"]["3d_fullres"]["patch_size"]))
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[0] == prod(plan("stock")["configurations"]["3d_fullres"]["patch_size"])


def test_iso_compute_narrows_the_streams_and_keeps_the_patch(written):
    written()
    stock = plan("stock")["configurations"]["3d_fullres"]
    plans = plan(streams=PAIRS, iso_compute=True)
    iso = plans["configurations"]["3d_fullres"]
    assert plans["plans_name"] == "nnUNetXModalIsoPlans"
    assert prod(iso["patch_size"]) >= prod(stock["patch_size"])
    arguments = iso["architecture"]["arch_kwargs"]
    wide = stock["architecture"]["arch_kwargs"]["features_per_stage"]
    assert arguments["features_per_stage"][:4] == [width // 2 for width in wide[:4]]
    assert arguments["reduce_skips"] is False
    assert network(iso).encoder.output_channels[:4] == list(wide[:4])


def test_three_streams_are_narrowed_to_multiples_of_eight(written):
    written()
    streams = [["T1", "T1c"], ["T2"], ["FLAIR"]]
    arguments = plan(streams=streams, iso_compute=True)["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert arguments["features_per_stage"][:4] == [8, 24, 40, 88]


@pytest.mark.slow
def test_pairings_share_the_data_of_nnunets_plans(written):
    written()
    stock = plan("stock")["configurations"]
    for options in ({}, {"streams": PAIRS, "plans_name": "nnUNetXModalPlans_pairs"}, {"iso_compute": True}):
        ours = plan(**options)["configurations"]
        for name in ("2d", "3d_fullres"):
            assert ours[name]["data_identifier"] == stock[name]["data_identifier"]
            assert ours[name]["spacing"] == stock[name]["spacing"]
            assert ours[name]["normalization_schemes"] == stock[name]["normalization_schemes"]


@pytest.mark.parametrize(
    "options", [{"overwrite_target_spacing": [2.0, 1.0, 1.0]}, {"preprocessor_name": "MyPreprocessor"}]
)
def test_data_that_are_preprocessed_otherwise_are_not_shared(written, options):
    written()
    made = plan(**options)["configurations"]
    for name in ("2d", "3d_fullres"):
        assert made[name]["data_identifier"] == f"nnUNetXModalPlans_{name}"
    if "overwrite_target_spacing" in options:
        assert made["3d_fullres"]["spacing"] == [2.0, 1.0, 1.0]


def test_planning_again_keeps_configurations_of_ones_own(written, nnunet_folders):
    written()
    plan(streams=PAIRS)
    file = nnunet_folders / "nnUNet_preprocessed" / DATASET / "nnUNetXModalPlans.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["2d_small"] = {"inherits_from": "2d", "batch_size": 3}
    file.write_text(json.dumps(plans))
    plan(streams=[["T1"], ["T1c"], ["T2"], ["FLAIR"]])
    again = json.loads(file.read_text())["configurations"]
    assert again["2d_small"] == {"inherits_from": "2d", "batch_size": 3}
    assert again["2d"]["architecture"]["arch_kwargs"]["streams"] == [[0], [1], [2], [3]]


def test_streams_of_dataset_json_are_the_default(written):
    written(xmodal={"streams": PAIRS})
    arguments = plan()["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert arguments["streams"] == [[0, 1], [2, 3]]


def test_plans_of_a_large_dataset_have_a_cascade(written):
    written(20, (400, 512, 512), (1.0, 0.8, 0.8))
    plans = plan(streams=PAIRS)
    assert plans["configurations"]["3d_lowres"]["next_stage"] == "3d_cascade_fullres"
    assert plans["configurations"]["3d_lowres"]["architecture"]["arch_kwargs"]["streams"] == [[0, 1], [2, 3]]
    assert np.greater(plans["configurations"]["3d_lowres"]["spacing"], [1.0, 0.8, 0.8]).all()
