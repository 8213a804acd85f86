"""Plans whose configuration trains a network of ours: in nnU-Net's format, by what a planner's methods determine."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.paths import nnUNet_preprocessed

from nnunet_xmodal.files.atomic import write_atomically

SMALLEST_BATCH = 2
"""Batch norm knows no variance of one."""


def fitting_batch(planner: ExperimentPlanner, feature_map_size: int, largest: int) -> int:
    """Return how many samples of a 3D network fit by nnU-Net's own reference, between `SMALLEST_BATCH` and `largest`.

    Args:
        feature_map_size: numbers in the outputs of the network's convolutions for one sample.
    """
    numbers = planner.UNet_reference_val_3d * planner.UNet_reference_val_corresp_bs_3d
    fitting = numbers * planner.UNet_vram_target_GB / planner.UNet_reference_val_corresp_GB / feature_map_size
    return max(SMALLEST_BATCH, min(largest, int(fitting)))


def plans_with(
    planner: ExperimentPlanner, configurations: Mapping[str, dict], shapes: np.ndarray, spacings: np.ndarray
) -> dict:
    """Return the plans that hold these configurations.

    Args:
        shapes, spacings: of the cropped images, `(cases, 3)` along the axes of the plans, in voxels and mm.
    """
    forward, backward = ([int(axis) for axis in axes] for axes in planner.determine_transpose())
    intensities = "foreground_intensity_properties_per_channel"
    return {
        "dataset_name": planner.dataset_name,
        "plans_name": planner.plans_identifier,
        "original_median_spacing_after_transp": np.median(spacings, 0).tolist(),
        "original_median_shape_after_transp": np.median(shapes, 0).round().astype(int).tolist(),
        "image_reader_writer": planner.determine_reader_writer().__name__,
        "transpose_forward": forward,
        "transpose_backward": backward,
        "configurations": dict(configurations),
        "experiment_planner_used": type(planner).__name__,
        "label_manager": "LabelManager",
        intensities: planner.dataset_fingerprint[intensities],
    }


def configuration_with(
    planner: ExperimentPlanner,
    network: str,
    arguments: dict[str, Any],
    *,
    data_identifier: str,
    patch_size: Sequence[int],
    batch_size: int,
    spacing: Sequence[float] | np.ndarray,
    median_shape: Sequence[float] | np.ndarray,
) -> dict:
    """Return the configuration that trains a network.

    Args:
        network: dotted name of the class.
        arguments: of its constructor, beside those that nnU-Net gives every network.
        spacing, median_shape: of the preprocessed images, in mm and voxels.
    """
    return {
        "data_identifier": data_identifier,
        "preprocessor_name": planner.preprocessor_name,
        "batch_size": batch_size,
        "patch_size": list(patch_size),
        "median_image_size_in_voxels": list(median_shape),
        "spacing": spacing,  # nnU-Net's planners want theirs back as the array that it is
        **_normalisation(planner),
        **_resampling(planner),
        "architecture": {"network_class_name": network, "arch_kwargs": arguments, "_kw_requires_import": []},
    }


def _normalisation(planner: ExperimentPlanner) -> dict:
    schemes, masks = planner.determine_normalization_scheme_and_whether_mask_is_used_for_norm()
    return {"normalization_schemes": schemes, "use_mask_for_norm": masks}


def _resampling(planner: ExperimentPlanner) -> dict:
    data, data_kwargs, labels, labels_kwargs = planner.determine_resampling()
    probabilities, probabilities_kwargs = planner.determine_segmentation_softmax_export_fn()
    plan: dict = {}
    for what, function, kwargs in (
        ("data", data, data_kwargs),
        ("seg", labels, labels_kwargs),
        ("probabilities", probabilities, probabilities_kwargs),
    ):
        plan |= {f"resampling_fn_{what}": function.__name__, f"resampling_fn_{what}_kwargs": kwargs}
    return plan


def copy_dataset_json(planner: ExperimentPlanner) -> None:
    """Write dataset.json beside the plans, where trainers look for it."""

    def copy(name: str) -> None:
        shutil.copy(Path(planner.raw_dataset_folder) / "dataset.json", name)

    write_atomically(Path(nnUNet_preprocessed) / planner.dataset_name / "dataset.json", copy)
