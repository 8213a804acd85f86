"""Prediction with segmentation models: nnU-Net's own, and attention maps beside it."""

import os
from collections.abc import Iterable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.datasets.checks import Case, cases_in_folder
from nnunet_xmodal.datasets.partial_cases import partial_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.folders import check_no_file
from nnunet_xmodal.files.model_files import read_model_dataset_json, read_model_plans
from nnunet_xmodal.prediction.export import WholeFilesPredictor, signed_like
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.prediction.whole_cases import cases_to_segment, check_and_predict
from nnunet_xmodal.tasks.segmentation.attention_maps import (
    attention_maps,
    check_has_attention_maps,
    write_attention_maps,
)
from nnunet_xmodal.tasks.segmentation.missing_streams import predict_partial_cases
from nnunet_xmodal.tasks.segmentation.options import SegmentationOptions
from nnunet_xmodal.tasks.segmentation.organ_roi import OrganRoi, crop_to_organ, organ_roi


class SegmentationPredictor(WholeFilesPredictor):
    """nnU-Net's predictor; on request it writes each case's attention maps while its preprocessed data is at hand.

    Attributes:
        attention_folder: where the attention maps go; None writes none.
    """

    options_class = SegmentationOptions
    options = SegmentationOptions()

    attention_folder: Path | None = None
    _roi: OrganRoi | None = None

    def check(self, request: PredictionRequest, model: Path) -> None:
        """Check that a cascade's first stage and the organ's masks are given where they are needed.

        Raises:
            XModalError: see there.
        """
        previous = PlansManager(read_model_plans(model)).get_configuration(request.configuration).previous_stage_name
        if previous is not None and request.previous_stage is None:
            raise XModalError(
                f"{request.configuration} is the second stage of a cascade: predict {previous} first and give its "
                "output folder with -prev_stage_predictions."
            )
        for folder in (request.previous_stage, self.options.roi):
            if folder is not None:
                check_no_file(folder)
        options = self.options
        self._roi = organ_roi(options.roi, options.roi_label, options.margin, read_model_dataset_json(model))

    def predict_folder(self, request: PredictionRequest) -> None:
        """Segment every case; those that lack channels as `--allow_missing` and `--impute` say.

        Raises:
            XModalError: before anything is written, for the first faulty case.
        """
        if self.options.attention_maps:
            check_has_attention_maps(self)
            self.attention_folder = Path(request.output) / "attention_maps"
        if self.options.allow_missing or self.options.impute is not None:
            partial = cases_to_segment(partial_cases(request.images, self.dataset_json), request, self.dataset_json)
            return predict_partial_cases(self, partial, request, self.options, self._roi)
        cases = cases_to_segment(cases_in_folder(request.images, self.dataset_json), request, self.dataset_json)
        check_and_predict(self, cases, request, lambda: self._crop(cases, request))

    def _crop(self, cases: list[Case], request: PredictionRequest) -> None:
        if self._roi is not None:
            crop_to_organ(self, cases, self._roi, request.checking_processes, request.progress)

    def predict_from_data_iterator(self, data_iterator: Iterable[dict], *args: Any, **kwargs: Any) -> Any:
        """Predict preprocessed cases as nnU-Net does, and write their attention maps where they are wanted."""
        if self.attention_folder is not None:
            data_iterator = self._writing_attention_maps(data_iterator, self.attention_folder)
        return super().predict_from_data_iterator(data_iterator, *args, **kwargs)

    def _writing_attention_maps(self, data_iterator: Iterable[dict], folder: Path) -> Iterator[dict]:
        for case in data_iterator:
            data = case["data"]  # large cases arrive as the name of a file, which nnU-Net deletes after use
            image = torch.from_numpy(np.load(data)) if isinstance(data, str) else torch.as_tensor(data)
            name = os.path.basename(case["ofile"])
            write_attention_maps(attention_maps(self, image), self, case["data_properties"], folder, name)
            yield case

    @signed_like(nnUNetPredictor.predict_from_files_sequential)
    def predict_from_files_sequential(self, *args: Any, **kwargs: Any) -> Any:
        """Predict cases given by their files in this process alone; with attention maps, two processes help."""
        if self.attention_folder is None:
            return super().predict_from_files_sequential(*args, **kwargs)
        # nnU-Net's sequential loop keeps data and properties to itself; its data iterator hands out both
        print("Attention maps need nnU-Net's data iterator: one process preprocesses and one writes.")
        given = signature(nnUNetPredictor.predict_from_files_sequential).bind(self, *args, **kwargs).arguments
        del given["self"]
        return self.predict_from_files(**given, num_processes_preprocessing=1, num_processes_segmentation_export=1)
