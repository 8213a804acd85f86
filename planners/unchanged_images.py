"""The base of planners whose images stay as they are."""

from typing import Any

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.planners.own_planner import OwnPlanner


class UnchangedImages(OwnPlanner, ExperimentPlanner):
    """Intensities stay as they are, axes keep their order, and no axis is resampled apart from the others."""

    needs_every_channel = True

    def determine_resampling(self, *args: Any, **kwargs: Any) -> tuple:
        """Return nnU-Net's resampling, with no axis apart from the others."""
        data, data_kwargs, seg, seg_kwargs = super().determine_resampling(*args, **kwargs)
        return data, data_kwargs | {"force_separate_z": False}, seg, seg_kwargs | {"force_separate_z": False}

    def determine_segmentation_softmax_export_fn(self, *args: Any, **kwargs: Any) -> tuple:
        """Return nnU-Net's resampling of probabilities, with no axis apart from the others."""
        function, kwargs_of_it = super().determine_segmentation_softmax_export_fn(*args, **kwargs)
        return function, kwargs_of_it | {"force_separate_z": False}

    def determine_normalization_scheme_and_whether_mask_is_used_for_norm(self) -> tuple[list[str], list[bool]]:
        """Return no normalisation, whatever the channels are called."""
        n = len(channel_names_of(self.dataset_json))
        return ["NoNormalization"] * n, [False] * n

    def determine_transpose(self) -> tuple[list[int], list[int]]:
        """Return the axes in their own order, forward and backward."""
        return [0, 1, 2], [0, 1, 2]
