"""Plans for registration: one fixed grid around an organ, whose spacing is chosen so that every organ fits."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.files.labels import foreground, organ_values
from nnunet_xmodal.networks.attention_reg import AttentionReg
from nnunet_xmodal.planners.own_configuration import configuration_with, copy_dataset_json, fitting_batch, plans_with
from nnunet_xmodal.planners.unchanged_images import UnchangedImages

GRID = (32, 96, 96)
"""Voxels along z, y, x, the paper's."""

_MARGIN = 0.3  # of the bounding box, per side
_BATCH_SIZE = 8


class RegistrationPlanner(UnchangedImages):
    """One configuration, 3d_fullres, whose patch is the grid of a registration network (Song et al., 2021).

    **Spacing**, per axis k and the finest with which everything fits:

        needed_k = max over the training cases of (1 + 2·0.3)·extent of the label's bounding box in mm / grid_k
        spacing_k = 1 / (1/needed_k − 1/(2·L_k))

    where L_k is the smallest extent of a cropped image. The second line makes up for rounding: preprocessing rounds
    L/spacing to whole voxels, which makes the effective spacing up to half a voxel per image finer. It may be finer
    than the images are: the organ fills as much of the grid as in the paper, whatever its size.

    Intensities stay as they are (`NoNormalization`), because both channels are scaled together on the grid; axes keep
    their order, and no axis is resampled apart from the others. Batch 8 as in the paper, less where a
    `-gpu_memory_target` cannot hold it by nnU-Net's reckoning.

    Args:
        dataset_name_or_id, others: as nnU-Net's planners take them; `overwrite_target_spacing` in mm along z, y, x.
        grid: z, y, x; the paper's if None.

    Raises:
        XModalError: for a grid that is too small, for other than two channels, for images or labels of one slice and
            for a case without label.
    """

    own_options = ("grid",)
    needs_every_label = True

    def __init__(self, dataset_name_or_id: str | int, *, grid: Sequence[int] | None = None, **others: Any) -> None:
        super().__init__(dataset_name_or_id, **{"plans_name": "nnUNetRegistrationPlans", **others})
        self.grid = [int(side) for side in grid or GRID]
        self.feature_map_size = _checked_feature_map_size(self.grid)
        _check_dataset_json(self.dataset_json)

    @classmethod
    def check_raw(
        cls, dataset_json: dict, cases: Sequence[Case], grid: Sequence[int] | None = None, **options: Any
    ) -> None:
        """Check the raw dataset before anything is written.

        Raises:
            XModalError: see the class.
        """
        _check_dataset_json(dataset_json)
        _checked_feature_map_size(grid or GRID)
        for case in cases:
            for file in case.images:
                _check_shows_something(read_image(file, dataset_json, is_label=False)[0], file)
            assert case.label is not None  # this planner needs every label
            label, geometry = read_image(case.label, dataset_json, is_label=True)
            _extent(case.name, case.label, label[0], geometry["spacing"], organ_values(dataset_json))

    def determine_fullres_target_spacing(self) -> np.ndarray:
        """Return the mm along z, y, x; see the class. Prints what does not fit if the user chose it otherwise."""
        extents = dict(self.label_extents())
        boxes = (1 + 2 * _MARGIN) * np.array(list(extents.values()))  # cases 3, in mm
        if self.overwrite_target_spacing is None:
            needed, smallest = boxes.max(0) / self.grid, self._smallest_image()
            if (needed >= smallest).any():  # a step as long as the image: the margin would need twice of it, and more
                raise XModalError(
                    f"the label's bounding box takes steps of {' '.join(f'{mm:.3g}' for mm in needed)} mm of the grid "
                    f"{' '.join(map(str, self.grid))}, and the flattest image has "
                    f"{' '.join(f'{mm:.3g}' for mm in smallest)} mm: leave flat images out, or give a finer --grid."
                )
            return 1 / (1 / needed - 1 / (2 * smallest))
        spacing = np.array(self.overwrite_target_spacing)
        too_large = [case for case, box in zip(extents, boxes) if (box > spacing * self.grid).any()]
        if too_large:
            print(
                f"With the spacing {spacing.tolist()} the label's bounding box, enlarged by {_MARGIN:.0%} per side, "
                f"does not fit into the grid {self.grid} in {len(too_large)} cases, for example {too_large[0]}."
            )
        return spacing

    def label_extents(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield every case and the mm along z, y, x of the bounding box of all foreground labels.

        Raises:
            XModalError: for a case without label, and one whose image or label has one slice.
        """
        reader = self.determine_reader_writer()()
        for case, files in self.dataset.items():
            label, properties = reader.read_seg(files["label"])
            yield case, _extent(case, files["label"], label[0], properties["spacing"], organ_values(self.dataset_json))

    def _smallest_image(self) -> np.ndarray:
        shapes, spacings = (np.array(self.dataset_fingerprint[key]) for key in ("shapes_after_crop", "spacings"))
        return (shapes * spacings).min(0)

    def batch_size(self) -> int:
        """Return how many samples fit by nnU-Net's own reference, at most the paper's eight."""
        return fitting_batch(self, self.feature_map_size, _BATCH_SIZE)

    def plan_experiment(self) -> dict:
        """Write the plans, and dataset.json beside them."""
        spacing = self.determine_fullres_target_spacing()
        shapes, spacings = (np.array(self.dataset_fingerprint[key]) for key in ("shapes_after_crop", "spacings"))
        new_shapes = [compute_new_shape(shape, mm, spacing) for shape, mm in zip(shapes, spacings)]
        copy_dataset_json(self)
        configuration = configuration_with(
            self,
            f"{AttentionReg.__module__}.{AttentionReg.__name__}",
            {"grid": self.grid},
            data_identifier=self.generate_data_identifier("3d_fullres"),
            patch_size=self.grid,
            batch_size=self.batch_size(),
            spacing=spacing.tolist(),
            median_shape=np.median(new_shapes, 0).tolist(),
        )
        self.plans = plans_with(self, {"3d_fullres": configuration | {"batch_dice": False}}, shapes, spacings)
        print(f"Grid {self.grid}, spacing {spacing.round(4).tolist()} mm")
        self.save_plans(self.plans)
        return self.plans


def _checked_feature_map_size(grid: Sequence[int]) -> int:
    with torch.device("meta"):
        return AttentionReg(grid).compute_conv_feature_map_size(list(grid))


def _check_dataset_json(dataset_json: dict) -> None:
    names = channel_names_of(dataset_json)
    if len(names) != 2:
        raise XModalError(
            "registration takes two channels, the fixed image and then the moving one, and dataset.json has "
            f"{len(names)} ({', '.join(names)}): make a dataset of these two."
        )
    if not foreground(dataset_json):
        raise XModalError(
            "dataset.json names no label but background: registration needs that of the organ whose surface measures "
            "the error."
        )


def _check_shows_something(voxels: np.ndarray, file: Path) -> None:
    if voxels.min() == voxels.max():
        raise XModalError(
            f"{file} has the value {voxels.flat[0]:g} everywhere: there is nothing to register, leave the case out."
        )


def _extent(
    case: str, file: str | Path, label: np.ndarray, spacing: Sequence[float], organ: Sequence[int]
) -> np.ndarray:
    """mm along z, y, x of the organ's bounding box in a label map `(z, y, x)`."""
    indices = np.argwhere(np.isin(label, organ))
    if not len(indices):
        raise XModalError(
            f"the label of {case} is empty ({file}): registration measures its error on the organ's surface, so "
            "complete the label or leave the case out."
        )
    voxels = np.ptp(indices, axis=0) + 1
    if label.ndim < 3 or min(label.shape) == 1 or min(voxels) == 1:
        raise XModalError(
            f"{case} has {'×'.join(map(str, label.shape))} voxels, its label {'×'.join(map(str, voxels))}: "
            "registration works on volumes, and on labels of more than one slice."
        )
    return voxels * np.asarray(spacing)
