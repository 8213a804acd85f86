"""Plans for reconstruction: images in physical units, the last channel learnt from those before it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.datasets.target_channel import TargetChannel
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.files.labels import foreground, ignore_label, inside
from nnunet_xmodal.networks.qsm_unet import WIDTHS, QSMUNet
from nnunet_xmodal.physics.measured_field import MeasuredField
from nnunet_xmodal.planners.own_configuration import SMALLEST_BATCH, configuration_with, fitting_batch
from nnunet_xmodal.planners.unchanged_images import UnchangedImages
from nnunet_xmodal.tasks.reconstruction.checks import check_not_empty, first_fault

PATCH = (32, 64, 64)
"""Voxels along z, y, x, the paper's."""

_FIELD_OPTIONS = ("field_unit", "B0", "TE", "b0_direction")
_BATCH_SIZE = 16
_DIVISOR = 2 ** (len(WIDTHS) - 1)  # of the backbone's patch, along every axis


class ReconstructionPlanner(UnchangedImages):
    """One configuration, 3d_fullres, with the backbone of the folded attention paper's susceptibility maps.

    Intensities stay as they are (`NoNormalization`): they are physical, and networks of our trainers are scaled by the
    standard deviations inside the mask. Axes keep their order, none is resampled apart from the others, and images are
    resampled to the median spacing, hence not at all where they share one.

    The patch is the paper's, less where images are smaller, in multiples of 16. Batch 16 as in the paper, less where a
    `-gpu_memory_target` cannot hold it by nnU-Net's reckoning.

    Args:
        dataset_name_or_id, others: as nnU-Net's planners take them; `overwrite_target_spacing` in mm along z, y, x.
        patch: z, y, x; the paper's if None.
        field_unit, B0, TE, b0_direction: of the field maps, for susceptibility; what is None is left to dataset.json,
            see `physics.measured_field`.

    Raises:
        XModalError: for a patch that the network cannot halve, fewer than two channels, no label, a target that is not
            the last channel, and a field whose numbers do not fit.
    """

    own_options = ("patch", *_FIELD_OPTIONS)
    needs_every_label = True
    plans_name = "nnUNetReconstructionPlans"

    def __init__(
        self,
        dataset_name_or_id: str | int,
        *,
        patch: Sequence[int] | None = None,
        field_unit: str | None = None,
        B0: float | None = None,
        TE: float | None = None,
        b0_direction: Sequence[float] | None = None,
        **others: Any,
    ) -> None:
        super().__init__(dataset_name_or_id, **{"plans_name": self.plans_name, **others})
        self.check_dataset_json(self.dataset_json)
        self.lowres_creation_threshold = 0  # no 3d_lowres
        self.patch = None if patch is None else [int(side) for side in patch]
        if self.patch is not None:
            self.check_patch(self.patch)
        self.field = self.field_of(self.dataset_json, field_unit, B0, TE, b0_direction)

    @staticmethod
    def field_of(dataset_json: dict, *flags: Any) -> MeasuredField | None:
        """Return the field of dataset.json with the flags (unit, B0, TE, direction) that win over it; None without
        both.

        Raises:
            XModalError: see MeasuredField.
        """
        entry = dataset_json.get("xmodal", {}).get("field")
        if entry is None and all(value is None for value in flags):
            return None
        return MeasuredField.of_entry(entry).with_flags(*flags)

    @staticmethod
    def input_names(dataset_json: dict) -> list[str]:
        """Return the names of the channels that networks read."""
        return channel_names_of(dataset_json)[:-1]

    @staticmethod
    def check_dataset_json(dataset_json: dict) -> None:
        """Check that dataset.json names inputs, target and a mask.

        Raises:
            XModalError: see the class.
        """
        names = channel_names_of(dataset_json)
        if len(names) < 2:
            raise XModalError(
                "reconstruction takes inputs and, as the last channel, the target, and dataset.json names "
                f"{len(names)} channel ({', '.join(names)}): add the target's files and its name."
            )
        entry = dataset_json.get("xmodal", {})
        target = entry.get("target") if isinstance(entry, dict) else None
        if target is not None and target not in (names[-1], len(names) - 1):
            raise XModalError(
                f"dataset.json names {target!r} as the target, but the last channel is {names[-1]}: number the "
                "channels and their files so that the target comes last."
            )
        if not foreground(dataset_json):
            raise XModalError(
                "dataset.json names no label but background: reconstruction needs a mask, for example "
                '"labels": {"background": 0, "brain": 1}.'
            )

    @classmethod
    def check_raw(
        cls,
        dataset_json: dict,
        cases: Sequence[Case],
        patch: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        """Check the raw dataset before anything is written.

        Raises:
            XModalError: see the class; also for a case with an empty mask, and for one of a single slice.
        """
        cls.check_dataset_json(dataset_json)
        cls.field_of(dataset_json, *(options.get(name) for name in _FIELD_OPTIONS))
        if patch is not None:
            cls.check_patch(patch)

        def check(case: Case) -> None:
            assert case.label is not None  # this planner needs every label
            labels, _ = read_image(case.label, dataset_json, is_label=True)
            check_no_slice(labels.shape[1:], case.name)
            check_not_empty(inside(labels, ignore_label(dataset_json)), case.label)

        fault = first_fault([lambda case=case: check(case) for case in cases])
        if fault:
            raise XModalError(fault)

    @staticmethod
    def check_patch(patch: Sequence[int]) -> None:
        """Check that the network can halve the patch.

        Raises:
            XModalError: for sides that are no multiples of 16, or a patch of one position at the bottom.
        """
        if any(side < _DIVISOR or side % _DIVISOR for side in patch) or max(patch) == _DIVISOR:
            raise XModalError(
                f"--patch {' '.join(map(str, patch))} cannot be halved {len(WIDTHS) - 1} times along z, y, x: take "
                f"multiples of {_DIVISOR}, at least one of them larger."
            )

    def determine_fullres_target_spacing(self) -> np.ndarray:
        """Return the mm along z, y, x: the median, whatever the anisotropy."""
        if self.overwrite_target_spacing is not None:
            return np.array(self.overwrite_target_spacing)
        return np.median(self.dataset_fingerprint["spacings"], 0)

    def patch_for(self, image_size: Sequence[float]) -> list[int]:
        """Return the user's patch, or the paper's within an image of these voxels, rounded up to multiples of 16."""
        if self.patch is not None:
            return self.patch
        fitting = [max(1, -(-int(side) // _DIVISOR)) * _DIVISOR for side in image_size]
        patch = [min(side, limit) for side, limit in zip(PATCH, fitting)]
        if max(patch) == _DIVISOR:
            patch[-1] *= 2  # normalisation wants two positions at the bottom
        return patch

    def get_plans_for_configuration(
        self, spacing: Sequence[float], median_shape: Sequence[float], data_identifier: str, *_: Any
    ) -> dict:
        """Return the plan of a configuration, as nnU-Net asks for it; none for 2d."""
        if len(spacing) == 2:
            return {}  # left out when plans are saved
        patch = self.patch_for(median_shape)
        plan = configuration_with(
            self,
            f"{QSMUNet.__module__}.{QSMUNet.__name__}",
            {"widths": list(WIDTHS)},
            data_identifier=data_identifier,
            patch_size=patch,
            batch_size=self.batch_size(patch),
            spacing=spacing,
            median_shape=median_shape,
        )
        return plan | {"spacing": np.asarray(spacing)}  # nnU-Net divides by it before it writes the plans

    def batch_size(self, patch: Sequence[int]) -> int:
        """Return how many samples fit by nnU-Net's own reference, at most the paper's sixteen."""
        with torch.device("meta"):
            size = QSMUNet().compute_conv_feature_map_size(list(patch))
        return fitting_batch(self, size, _BATCH_SIZE)

    def plan_experiment(self) -> dict:
        """Write the plans, and dataset.json beside them.

        Raises:
            XModalError: for images of one slice.
        """
        for shape in self.dataset_fingerprint["shapes_after_crop"]:  # cropping leaves one slice of some volumes
            check_no_slice(shape, self.dataset_name)
        return super().plan_experiment()

    def save_plans(self, plans: dict) -> None:
        """Save the plans with the target named, and without nnU-Net's other configurations."""
        plans["configurations"] = {"3d_fullres": plans["configurations"]["3d_fullres"]}
        target = TargetChannel(len(channel_names_of(self.dataset_json)) - 1)
        plans["xmodal"] = target.as_plans() | ({} if self.field is None else {"field": self.field.as_entry()})
        super().save_plans(plans)


def check_no_slice(shape: Sequence[int], name: str) -> None:
    """Check that an image is a volume.

    Args:
        shape: of an image, voxels along its axes.
        name: of the case or the dataset.

    Raises:
        XModalError: for an image of one slice.
    """
    if len(shape) < 3 or min(shape) == 1:
        raise XModalError(
            f"{name} has an image of {'×'.join(map(str, shape))} voxels: reconstruction works on volumes, leave the "
            "case out."
        )


class ReconstructionUNetPlanner(ReconstructionPlanner):
    """The same with nnU-Net's own network for the patch, in place of the paper's."""

    plans_name = "nnUNetReconstructionUNetPlans"

    @staticmethod
    def check_patch(patch: Sequence[int]) -> None:
        """Check that a U-Net can read the patch.

        Raises:
            XModalError: for a side of fewer than eight voxels, or no multiple of four.
        """
        if any(side < 8 or side % 4 for side in patch):
            raise XModalError(
                f"--patch {' '.join(map(str, patch))} is too small for a U-Net, or its sides are no multiples of four."
            )

    def get_plans_for_configuration(self, spacing: Sequence[float], median_shape: Sequence[float], *rest: Any) -> dict:
        """Return the plan of a configuration, as nnU-Net asks for it; none for 2d."""
        if len(spacing) == 2:
            return {}
        # nnU-Net begins with a patch as large as the image; its estimate counts the target's channel as an input
        patch = np.array(self.patch_for(median_shape))
        plan = ExperimentPlanner.get_plans_for_configuration(self, spacing, patch, *rest)
        fitted = [int(side) for side in plan["patch_size"]]
        if self.patch is not None and fitted != list(self.patch):
            raise XModalError(
                f"--patch {' '.join(map(str, self.patch))} is none that nnU-Net's network can halve at a spacing of "
                f"{' '.join(f'{mm:g}' for mm in np.round(spacing, 3))} mm within {self.UNet_vram_target_GB:g} GB: take "
                f"--patch {' '.join(map(str, fitted))}, or other sides."
            )
        return plan | {
            "median_image_size_in_voxels": list(median_shape),
            "batch_size": max(SMALLEST_BATCH, min(_BATCH_SIZE, plan["batch_size"])),
        }
