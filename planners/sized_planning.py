"""A patch and a width of the user's for any planner of U-Nets: `--patch Z Y X` and `--base_width N`."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.unet_plan import check_patch_size
from nnunet_xmodal.planners.own_planner import OwnPlanner
from nnunet_xmodal.planners.shared_data import shares_data

if TYPE_CHECKING:
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner as _Planner,
    )
else:
    _Planner = object  # a mixin, whose methods one of nnU-Net's planners has behind it


class SizedPlanning(_Planner):
    """A mixin before one of nnU-Net's planners, or behind ours: patch and width are given, all else is planned.

    The network has as many levels as nnU-Net gives that patch, and the batch is as large as fits. Plans have a name of
    their own, for example `nnUNetPatch128x128x128Width16Plans`; 2d and 3d_fullres read the data of the plans without
    these numbers. In 3d_lowres, whose spacing follows from the patch, sides are rounded up where its levels ask for it.

    Args:
        dataset_name_or_id, others: as nnU-Net's planners take them.
        patch: sides in voxels along the axes of the plans (nnU-Net puts the one with the largest spacing first): three,
            of which 2d takes the last two, or two for 2d alone; None leaves them to nnU-Net.
        base_width: channels of the finest level, which double with every level up to nnU-Net's largest; None for 32.

    Raises:
        XModalError: at once for numbers that fit no data, see `check_sizes`; in `plan_experiment`, before plans are
            written, for a patch that the network cannot halve, one that is too small, and one of which two do not fit
            into the GPU memory that is planned for.
    """

    def __init__(
        self,
        dataset_name_or_id: str | int,
        *args: Any,
        patch: Sequence[int] | None = None,
        base_width: int | None = None,
        **others: Any,
    ) -> None:
        super().__init__(dataset_name_or_id, *args, **others)
        check_sizes(patch, base_width)
        self.patch = None if patch is None else [int(side) for side in patch]
        if base_width is not None:
            self.UNet_base_num_features = int(base_width)

    def get_plans_for_configuration(
        self,
        spacing: Sequence[float],
        median_shape: Sequence[float],
        data_identifier: str,
        approximate_n_voxels: float,
        _cache: dict,
    ) -> dict:
        """Return the plan of a configuration, as nnU-Net asks for it, with the given patch and width."""
        dimensions = len(spacing)
        _check_width(self, dimensions)
        if self.patch is None or len(self.patch) < dimensions:
            return super().get_plans_for_configuration(
                spacing, median_shape, data_identifier, approximate_n_voxels, _cache
            )
        given = self.patch[-dimensions:]
        smallest = np.full(dimensions, 2 * self.UNet_featuremap_min_edge_length)  # a plan without a search for a patch
        plan = super().get_plans_for_configuration(spacing, smallest, data_identifier, approximate_n_voxels, _cache)
        fitted, levels = _levels(spacing, given, self.UNet_featuremap_min_edge_length)
        rounds_up = data_identifier.endswith("_3d_lowres")
        if fitted != given and not rounds_up:
            raise XModalError(
                f"--patch {_words(given)} cannot be halved as often as nnU-Net's network does it in {dimensions}d at "
                f"a spacing of {_words(np.round(spacing, 3))} mm: take --patch {_words(fitted)}, or other sides."
            )
        architecture = plan["architecture"]
        _set_levels(self, architecture["arch_kwargs"], levels, dimensions)
        plan |= {
            "patch_size": fitted,
            "batch_size": self._batch_size(fitted, architecture, approximate_n_voxels),
            "median_image_size_in_voxels": median_shape,
        }
        if not rounds_up and any(side > image for side, image in zip(fitted, median_shape)):
            print(
                f"The patch {_words(fitted)} is larger than the median image, {_words(np.round(median_shape))} voxels: "
                "what is beyond the image is padded."
            )
        return plan

    def _batch_size(self, patch: list[int], architecture: dict, voxels_of_dataset: float) -> int:
        """nnU-Net's: as many samples as fit, at most 5 % of the data set, at least two."""
        flat = len(patch) == 2
        memory = self.UNet_vram_target_GB / self.UNet_reference_val_corresp_GB
        reference = (self.UNet_reference_val_2d if flat else self.UNet_reference_val_3d) * memory
        samples = self.UNet_reference_val_corresp_bs_2d if flat else self.UNet_reference_val_corresp_bs_3d
        numbers = self.static_estimate_VRAM_usage(
            patch,
            len(self.dataset_json.get("channel_names", self.dataset_json.get("modality"))),
            len(self.dataset_json["labels"]),
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
        )
        needed = numbers / samples * self.UNet_min_batch_size / reference
        if needed > 1:
            raise XModalError(
                f"--patch {_words(patch)} is too large: by nnU-Net's reckoning a batch of {self.UNet_min_batch_size} "
                f"needs {ceil(10 * needed * self.UNet_vram_target_GB) / 10} GB, and {self.UNet_vram_target_GB:g} GB "
                "are planned for: take a smaller patch, a smaller --base_width, or a larger -gpu_memory_target."
            )
        share = round(voxels_of_dataset * self.max_dataset_covered / np.prod(patch, dtype=np.float64))
        return max(min(round(reference / numbers * samples), share), self.UNet_min_batch_size)


def check_sizes(patch: Sequence[int] | None, base_width: int | None) -> None:
    """Check what needs no dataset, before anything is read.

    Raises:
        XModalError: for a patch of other than two or three sides, a side that is not positive, and such a width.
    """
    if patch is not None and (len(patch) not in (2, 3) or min(patch) < 1):
        raise XModalError(
            f"--patch takes three positive numbers Z Y X, or two for 2d, Y X, and got {_words(patch)}: give for "
            "example --patch 128 128 128."
        )
    if base_width is not None and base_width < 1:
        raise XModalError(f"--base_width takes a positive number of channels, e.g. 16, and got {base_width}.")


def sized_name(plans_name: str, patch: Sequence[int] | None, base_width: int | None) -> str:
    """Return the name of plans with these sizes, `nnUNetPlans`, (128, 128), 16 → `nnUNetPatch128x128Width16Plans`."""
    sizes = "" if patch is None else f"Patch{'x'.join(map(str, patch))}"
    sizes += "" if base_width is None else f"Width{base_width}"
    before, plans, after = plans_name.rpartition("Plans")
    return f"{before}{sizes}{plans}{after}" if plans else f"{plans_name}{sizes}"


def can_be_sized(planner: type) -> bool:
    """Tell whether a planner is one of nnU-Net's own, or one of ours that takes both numbers."""
    return issubclass(planner, SizedPlanning) or not issubclass(planner, OwnPlanner)


def sized(planner: type[ExperimentPlanner]) -> type[ExperimentPlanner]:
    """Return one of nnU-Net's planners with `patch` and `base_width`; those of ours that can have them are returned."""
    if issubclass(planner, SizedPlanning):
        return planner

    class Sized(SizedPlanning, planner):
        plans_identifier: str  # set by nnU-Net

        def __init__(
            self,
            dataset_name_or_id: str | int,
            *,
            patch: Sequence[int] | None = None,
            base_width: int | None = None,
            plans_name: str | None = None,
            **others: Any,
        ) -> None:
            super().__init__(dataset_name_or_id, patch=patch, base_width=base_width, **others)
            self._unsized_name = self.plans_identifier
            self.plans_identifier = plans_name or sized_name(self.plans_identifier, patch, base_width)

        def generate_data_identifier(self, configuration_name: str) -> str:
            usual = super().generate_data_identifier(configuration_name)
            named_by_plans = usual == f"{self.plans_identifier}_{configuration_name}"
            if named_by_plans and shares_data(self, self._unsized_name, configuration_name):
                return f"{self._unsized_name}_{configuration_name}"
            return usual

    Sized.__name__ = Sized.__qualname__ = planner.__name__  # which nnU-Net writes into the plans
    return Sized


def _check_width(planner: ExperimentPlanner, dimensions: int) -> None:
    largest = planner.UNet_max_features_2d if dimensions == 2 else planner.UNet_max_features_3d
    if planner.UNet_base_num_features > largest:
        raise XModalError(
            f"--base_width {planner.UNet_base_num_features} is more than the {largest} channels that nnU-Net gives any "
            f"level in {dimensions}d: take at most {largest}."
        )


def _levels(
    spacing: Sequence[float], patch: Sequence[int], smallest_side: int
) -> tuple[list[int], tuple[tuple, tuple]]:
    """Sides that the levels of nnU-Net's network divide, not below `patch`, and its strides and kernels."""
    _, strides, kernels, fitted, _ = get_pool_and_conv_props(spacing, patch, smallest_side, 999999)
    fitted = [int(side) for side in fitted]
    if len(strides) < 3:  # nnU-Net's loss gives the coarsest output of several no weight, and two levels have one
        raise XModalError(
            f"--patch {_words(patch)} is too small for a U-Net: nnU-Net's needs a side of at least "
            f"{4 * smallest_side} voxels that it can halve twice."
        )
    check_patch_size(fitted, strides)
    return fitted, (strides, kernels)


def _set_levels(planner: ExperimentPlanner, kwargs: dict, levels: tuple[tuple, tuple], dimensions: int) -> None:
    """Writes the levels into `arch_kwargs` of plain or residual encoders."""
    strides, kernels = levels
    n = len(strides)
    largest = planner.UNet_max_features_2d if dimensions == 2 else planner.UNet_max_features_3d
    blocks = "n_blocks_per_stage" if "n_blocks_per_stage" in kwargs else "n_conv_per_stage"
    kwargs |= {
        "n_stages": n,
        "features_per_stage": tuple(min(largest, planner.UNet_base_num_features * 2**level) for level in range(n)),
        "kernel_sizes": kernels,
        "strides": strides,
        blocks: planner.UNet_blocks_per_stage_encoder[:n],
        "n_conv_per_stage_decoder": planner.UNet_blocks_per_stage_decoder[: n - 1],
    }


def _words(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:g}" for number in numbers)
