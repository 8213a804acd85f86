"""Predicted segmentations on disk as nnU-Net writes them, but read back, flushed and renamed."""

import pickle
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.complete import is_complete
from nnunet_xmodal.files.stand_ins import save_json, stand_ins
from nnunet_xmodal.files.volume_writer import write_label_map
from nnunet_xmodal.prediction.guarded_predictor import GuardedPredictor
from nnunet_xmodal.prediction.logits_on_disk import window_on_disk
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.prediction.segmentation_of_logits import can_go_by_class, segmentation_of
from nnunet_xmodal.prediction.turning import as_stored


def export_prediction(
    logits: np.ndarray | torch.Tensor,
    properties: dict,
    configuration: ConfigurationManager,
    plans: PlansManager,
    dataset_json: dict,
    output: str,
    save_probabilities: bool = False,
    num_threads_torch: int = default_num_processes,
) -> None:
    """Resample logits `(heads, *spatial)` to the case's grid and write what nnU-Net's export writes.

    The segmentation comes last: where it is new, its probabilities are.

    Args:
        properties: what nnU-Net's reader and preprocessor have noted about the case.
        output: folder and name of the case.

    Raises:
        XModalError: if a file cannot be written or does not read back, as on a full disk, and for NaN or infinite
            logits, of which nnU-Net makes background.
    """
    if not all(torch.isfinite(torch.as_tensor(of_head)).all() for of_head in logits):
        raise XModalError(
            f"the network returned NaN or infinity for {Path(output).name}: nothing is written for it; look at its "
            "intensities, and at the training's loss."
        )
    manager = plans.get_label_manager(dataset_json)
    if save_probabilities or not can_go_by_class(manager):
        made = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            plans,
            configuration,
            manager,
            properties,
            return_probabilities=save_probabilities,
            num_threads_torch=num_threads_torch,
        )
    else:
        made = segmentation_of(logits, properties, configuration, plans, manager)
    segmentation = made
    if save_probabilities:
        segmentation, probabilities = made
        # along the case's own axes, on which whoever reads them expects them: nnUNetv2_ensemble for one
        probabilities, noted = as_stored(probabilities, properties)
        write_atomically(
            f"{output}.npz", lambda name: np.savez_compressed(name, probabilities=probabilities), is_complete
        )
        write_atomically(f"{output}.pkl", lambda name: _save_pickle(noted, name), is_complete)
    writer = plans.image_reader_writer_class()
    write_label_map(segmentation, f"{output}{dataset_json['file_ending']}", properties, writer)


def _save_pickle(content: object, name: str) -> None:
    with open(name, "wb") as stream:
        pickle.dump(content, stream)


WRITERS: dict[str, Callable[..., Any]] = {"export_prediction_from_logits": export_prediction, "save_json": save_json}
"""What stands in for nnU-Net's functions, see `files.stand_ins`; worker processes get them with their task."""


def signed_like(theirs: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a method the signature of nnU-Net's that it stands for."""
    return wraps(theirs)


class WholeFilesPredictor(GuardedPredictor):
    """nnU-Net's predictor, whose files are all there in full or not at all.

    Signatures stay nnU-Net's, which looks at them for a record of its arguments.
    """

    bounds_memory = True
    sums_probabilities = False  # beside the logits, in the memory

    @property
    def folds(self) -> int:
        """Return how many networks predict each case."""
        return max(1, len(self.list_of_parameters or ()))

    @classmethod
    def described_label_maps(cls, request: PredictionRequest, dataset_json: Mapping) -> Mapping | None:
        """Return the model's own dataset.json."""
        return dataset_json

    @torch.inference_mode()
    def _internal_predict_sliding_window_return_logits(
        self, data: torch.Tensor, slicers: list[tuple], do_on_device: bool = True
    ) -> torch.Tensor:
        """nnU-Net's, on the disk where a limit of memory asks for it: `(C, *padded)` → `(heads, *padded)`."""
        limit, heads = self.memory_limit, self.label_manager.num_segmentation_heads
        if limit is None or limit.holds(data, heads, self.folds, self.sums_probabilities):
            return super()._internal_predict_sliding_window_return_logits(data, slicers, do_on_device)
        return window_on_disk(self, data, slicers, limit.folder)

    @signed_like(nnUNetPredictor.predict_from_files)
    def predict_from_files(self, *args: Any, **kwargs: Any) -> Any:
        """Predict cases given by their files, as nnU-Net does."""
        with stand_ins(WRITERS, predict_from_raw_data):
            return super().predict_from_files(*args, **kwargs)

    @signed_like(nnUNetPredictor.predict_from_files_sequential)
    def predict_from_files_sequential(self, *args: Any, **kwargs: Any) -> Any:
        """Predict cases given by their files in this process alone, as nnU-Net does; `export` writes each."""
        writers = {**WRITERS, "export_prediction_from_logits": self.export}
        with stand_ins(writers, predict_from_raw_data):
            return super().predict_from_files_sequential(*args, **kwargs)

    def export(
        self,
        logits: torch.Tensor,
        properties: dict,
        configuration: ConfigurationManager,
        plans: PlansManager,
        dataset_json: dict,
        output: str,
        *options: Any,
    ) -> None:
        """Write a case that this process alone has predicted; arguments as of `export_prediction`."""
        self.before_export(properties, output)
        export_prediction(logits, properties, configuration, plans, dataset_json, output, *options)

    def before_export(self, properties: dict, output: str) -> None:
        """Write what belongs beside a case that this process alone has predicted; arguments as of `export`."""

    def predict_from_data_iterator(self, data_iterator: Iterable[dict], *args: Any, **kwargs: Any) -> Any:
        """Predict preprocessed cases, as nnU-Net does."""
        with stand_ins(WRITERS, predict_from_raw_data):
            return super().predict_from_data_iterator(data_iterator, *args, **kwargs)

    def predict_single_npy_array(self, *args: Any, **kwargs: Any) -> Any:
        """Predict one case in memory, as nnU-Net does."""
        with stand_ins(WRITERS, predict_from_raw_data):
            return super().predict_single_npy_array(*args, **kwargs)

    def read_result(self, case: str, output: Path) -> sitk.Image:
        """Read the label map of a case."""
        return sitk.ReadImage(str(output / f"{case}{self.dataset_json['file_ending']}"))
