"""Plans for few-shot segmentation: whole slices on one patch, and nothing that depends on a label."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.planners.own_configuration import configuration_with, copy_dataset_json, plans_with
from nnunet_xmodal.planners.own_planner import OwnPlanner

SIZE = (256, 256)
"""Pixels along y, x, the paper's."""

_NETWORK = "nnunet_xmodal.networks.prototype_network.PrototypeNetwork"  # by name: planning does not build it
_STRIDE = 8  # of the backbone's features
_SMALLEST = 64
_CHUNKS, _SHOTS = 3, 1


class FewShotPlanner(OwnPlanner, ExperimentPlanner):
    """One configuration, 2d, whose patch holds every slice whole (Huang et al., 2023; 256×256 pixels).

    **Spacing**, the same along both axes of a slice, and as coarse as the largest slice needs:

        spacing = max over the training cases and both axes of (extent of the cropped image in mm)/(pixels of the patch)

    so that preprocessing, which rounds extent/spacing to whole pixels, never exceeds the patch, and smaller slices are
    padded. It may be finer than the images are. An `-overwrite_target_spacing` is taken for the slices' axes; the
    third number decides with them which axis runs through the slices (nnU-Net: that of the largest spacing). Along it
    nothing is resampled, so slices stay those of the acquisition.

    **Intensities**: z-score over the whole image for every channel, whatever it is called. nnU-Net's scheme for CT
    takes its window from labelled voxels, and its mask for cropped images would put the background at 0, amid the
    tissue, while superpixels and foreground are separated from it by its darkness.

    The batch is one episode. The network answers for three chunks per organ with one support slice each.

    Args:
        dataset_name_or_id, others: as nnU-Net's planners take them; `overwrite_target_spacing` in mm along z, y, x.
        size: pixels along y and x, or one number for both; the paper's if None.

    Raises:
        XModalError: for a size that is not a multiple of 8 or below 64.
    """

    own_options = ("size",)
    needs_every_channel = True

    def __init__(
        self, dataset_name_or_id: str | int, *, size: Sequence[int] | int | None = None, **others: Any
    ) -> None:
        super().__init__(dataset_name_or_id, **{"plans_name": "nnUNetFewShotPlans", **others})
        self.size = self.checked_size(size)

    @staticmethod
    def checked_size(size: Sequence[int] | int | None) -> list[int]:
        """Return the pixels along y, x once they are checked; see the class for errors."""
        sides = list(SIZE) if size is None else [size] if isinstance(size, int) else list(size)
        sides = [int(side) for side in (sides * 2 if len(sides) == 1 else sides)]
        if len(sides) != 2 or any(side % _STRIDE or side < _SMALLEST for side in sides):
            raise XModalError(
                f"--size takes one number, or two for y and x, each a multiple of {_STRIDE} and at least {_SMALLEST}, "
                f"because the network's features are {_STRIDE} times as coarse; got {' '.join(map(str, sides))}."
            )
        return sides

    @classmethod
    def check_raw(
        cls, dataset_json: dict, cases: Sequence[Case], size: Sequence[int] | None = None, **options: Any
    ) -> None:
        """Check the raw dataset before anything is written; see the class for errors."""
        cls.checked_size(size)

    def determine_normalization_scheme_and_whether_mask_is_used_for_norm(self) -> tuple[list[str], list[bool]]:
        """Return the z-score over the whole image for every channel."""
        channels = len(channel_names_of(self.dataset_json))
        return ["ZScoreNormalization"] * channels, [False] * channels

    def slice_spacing(self, transpose_forward: Sequence[int]) -> np.ndarray:
        """Return the mm along y and x of the slices; see the class. Prints what does not fit if the user chose it
        otherwise.
        """
        in_plane = list(transpose_forward[1:])
        extents = self._shapes_and_spacings().prod(1)[:, in_plane]  # cases 2, in mm
        if self.overwrite_target_spacing is None:
            return np.full(2, (extents / self.size).max())
        spacing = np.array(self.overwrite_target_spacing)[in_plane]
        too_large = (np.round(extents / spacing) > self.size).any(1).sum()
        if too_large:
            print(
                f"With the spacing {spacing.tolist()} the slices of {too_large} of {len(extents)} cases exceed the "
                f"patch {self.size}: training sees their middle, prediction slides the patch over them."
            )
        return spacing

    def _shapes_and_spacings(self) -> np.ndarray:
        """`(cases, 2, 3)`: voxels of the cropped images, and mm."""
        fingerprint = self.dataset_fingerprint
        return np.stack((fingerprint["shapes_after_crop"], fingerprint["spacings"]), 1).astype(float)

    def plan_experiment(self) -> dict:
        """Write the plans, and dataset.json beside them."""
        forward, _ = self.determine_transpose()
        spacing = self.slice_spacing(forward)
        shapes, spacings = self._shapes_and_spacings()[:, :, forward].swapaxes(0, 1)
        new_shapes = [compute_new_shape(shape[1:], mm[1:], spacing) for shape, mm in zip(shapes, spacings)]
        copy_dataset_json(self)
        configuration = configuration_with(
            self,
            _NETWORK,
            {"size": self.size, "chunks": _CHUNKS, "shots": _SHOTS},
            data_identifier=self.generate_data_identifier("2d"),
            patch_size=self.size,
            batch_size=1,
            spacing=spacing.tolist(),
            median_shape=np.median(new_shapes, 0).tolist(),
        )
        self.plans = plans_with(self, {"2d": configuration | {"batch_dice": True}}, shapes, spacings)
        print(f"Patch {self.size}, spacing {spacing.round(4).tolist()} mm")
        self.save_plans(self.plans)
        return self.plans
