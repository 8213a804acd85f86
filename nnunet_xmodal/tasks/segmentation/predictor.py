"""Prediction with segmentation models: nnU-Net's own, and beside it attention maps and how sure the model is."""

import os
from collections.abc import Iterable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.datasets.cases import Case, cases_in_folder
from nnunet_xmodal.datasets.partial_cases import partial_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.folders import check_no_file
from nnunet_xmodal.files.model_files import read_model_dataset_json, read_model_plans
from nnunet_xmodal.files.model_temperature import not_fitted_on, noted_folds, read_temperature
from nnunet_xmodal.files.remarks import remark
from nnunet_xmodal.prediction.export import WholeFilesPredictor, signed_like
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.prediction.tiles import mirrorings, padded, tile_weight
from nnunet_xmodal.prediction.whole_cases import cases_to_segment, check_and_predict
from nnunet_xmodal.tasks.segmentation.attention_maps import (
    attention_maps,
    check_has_attention_maps,
    write_attention_maps,
)
from nnunet_xmodal.tasks.segmentation.fold_probabilities import FoldProbabilities
from nnunet_xmodal.tasks.segmentation.missing_streams import predict_partial_cases
from nnunet_xmodal.tasks.segmentation.options import SegmentationOptions
from nnunet_xmodal.tasks.segmentation.organ_roi import OrganRoi, crop_to_organ, organ_roi
from nnunet_xmodal.tasks.segmentation.uncertainty import map_files, write_uncertainty


class SegmentationPredictor(WholeFilesPredictor):
    """nnU-Net's predictor; on request it writes each case's attention maps and uncertainty while its data is at hand.

    Label maps are nnU-Net's whatever is asked for: logits are added up as it adds them, probabilities beside them.

    Attributes:
        attention_folder: where the attention maps go; None writes none.
        temperature: what logits are divided by.
    """

    options_class = SegmentationOptions
    options = SegmentationOptions()

    attention_folder: Path | None = None
    temperature: float = 1.0
    _roi: OrganRoi | None = None
    _uncertainty_of: PredictionRequest | None = None
    _case: dict | None = None
    _probabilities: FoldProbabilities | None = None
    _saves_probabilities = True

    def prepare(self, request: PredictionRequest, model: Path) -> None:
        """Read the temperature and where the organ is; check that masks and a cascade's first stage are given.

        They are given where they are needed, and only there.

        Raises:
            XModalError: see there.
        """
        previous = PlansManager(read_model_plans(model)).get_configuration(request.configuration).previous_stage_name
        if previous is not None and request.previous_stage is None:
            raise XModalError(
                f"{request.configuration} is the second stage of a cascade: predict {previous} first and give its "
                "output folder with -prev_stage_predictions."
            )
        if previous is None and request.previous_stage is not None:
            raise XModalError(
                f"{request.configuration} is no second stage of a cascade and reads no prediction of a first: leave "
                "-prev_stage_predictions out."
            )
        for folder in (request.previous_stage, self.options.roi):
            if folder is not None:
                check_no_file(folder)
        options = self.options
        if options.temperature:
            self.temperature = read_temperature(model)
            if others := not_fitted_on(model, request.folds):
                fitted = " ".join(map(str, noted_folds(model)))
                remark(
                    f"the temperature of {model.name} was fitted on the folds {fitted}, not on {' '.join(others)}: "
                    "probabilities of the latter need not be calibrated by it."
                )
        self._roi = organ_roi(options.roi, options.roi_label, options.margin, read_model_dataset_json(model))

    def predict_folder(self, request: PredictionRequest) -> None:
        """Segment every case; those that lack channels as `--allow_missing` and `--impute` say.

        Raises:
            XModalError: before anything is written, for the first faulty case.
        """
        self._saves_probabilities = request.save_probabilities
        if self.options.attention_maps:
            if self.memory_limit is not None:
                raise XModalError(
                    "--attention_maps takes two processes more, which --max_memory does not bound: leave one out."
                )
            check_has_attention_maps(self)
            self.attention_folder = Path(request.output) / "attention_maps"
        if self.options.uncertainty:
            self._uncertainty_of, self.sums_probabilities = request, True
            if len(request.folds) < 2:
                remark(
                    "one fold alone cannot disagree: --uncertainty writes entropy, and neither forecasts nor mutual "
                    "information; give several folds with -f."
                )
        beside = map_files if self.options.uncertainty else lambda case: []
        if self.options.allow_missing or self.options.impute is not None:
            partial = partial_cases(request.images, self.dataset_json)
            partial = cases_to_segment(partial, request, self.dataset_json, beside)
            return predict_partial_cases(self, partial, request, self.options, self._roi)
        cases = cases_in_folder(request.images, self.dataset_json)
        cases = cases_to_segment(cases, request, self.dataset_json, beside)
        check_and_predict(self, cases, request, lambda: self.crop(cases, request), self.sums_probabilities)

    def crop(self, cases: list[Case], request: PredictionRequest) -> None:
        """Let these cases be cropped as they are read, where the request names an organ; see `crop_to_organ`."""
        if self._roi is not None:
            crop_to_organ(self, cases, self._roi, request.checking_processes, request.progress)

    def followed(self, cases: Iterable[dict]) -> Iterator[dict]:
        """Yield preprocessed cases; attention maps of each are written before it is predicted, uncertainty after it."""
        for case in cases:
            if self.attention_folder is not None:
                data = case["data"]  # large cases arrive as the name of a file, which nnU-Net deletes after use
                image = torch.from_numpy(np.load(data)) if isinstance(data, str) else torch.as_tensor(data)
                name = os.path.basename(case["ofile"])
                write_attention_maps(
                    attention_maps(self, image), self, case["data_properties"], self.attention_folder, name
                )
            self._case = case
            yield case
        self._case = None

    def predict_from_data_iterator(self, data_iterator: Iterable[dict], *args: Any, **kwargs: Any) -> Any:
        """Predict preprocessed cases as nnU-Net does, and write of each what is asked for beside its segmentation."""
        if self.attention_folder is not None or self._uncertainty_of is not None:
            data_iterator = self.followed(data_iterator)
        return super().predict_from_data_iterator(data_iterator, *args, **kwargs)

    @signed_like(nnUNetPredictor.predict_from_files_sequential)
    def predict_from_files_sequential(self, *args: Any, **kwargs: Any) -> Any:
        """Predict cases given by their files in this process alone; with attention maps, two processes help."""
        if self.attention_folder is None:
            return super().predict_from_files_sequential(*args, **kwargs)
        # nnU-Net's sequential loop keeps the data to itself; its data iterator hands it out
        print("Attention maps need nnU-Net's data iterator: one process preprocesses and one writes.")
        given = signature(nnUNetPredictor.predict_from_files_sequential).bind(self, *args, **kwargs).arguments
        del given["self"]
        return self.predict_from_files(**given, num_processes_preprocessing=1, num_processes_segmentation_export=1)

    def predict_logits_from_preprocessed_data(self, data: torch.Tensor) -> torch.Tensor:
        """Predict a preprocessed case `(C, *spatial)` as nnU-Net does, and write its uncertainty where it is wanted.

        The segmentation is written after this: where it is there in full, so is its uncertainty.
        """
        if self._uncertainty_of is not None:
            self._probabilities = FoldProbabilities(self.label_manager)
        logits = super().predict_logits_from_preprocessed_data(data)
        if self._case is not None:
            self._write_uncertainty(self._case["data_properties"], self._case["ofile"])
        if self.temperature == 1 or not self._saves_probabilities:  # labels are the same at any temperature
            return logits
        return logits.float() / self.temperature

    def before_export(self, properties: dict, output: str) -> None:
        """Write the uncertainty of a case that this process alone has predicted."""
        self._write_uncertainty(properties, output)

    def _write_uncertainty(self, properties: dict, file: str) -> None:
        if self._probabilities is None or self._uncertainty_of is None:
            return
        found, self._probabilities = self._probabilities.result(), None
        output, part = Path(self._uncertainty_of.output), self._uncertainty_of.part
        write_uncertainty(found, self, properties, output, os.path.basename(file), part)

    def predict_sliding_window_return_logits(self, input_image: torch.Tensor) -> torch.Tensor:
        """Predict a case with the fold that is loaded, as nnU-Net does."""
        logits = super().predict_sliding_window_return_logits(input_image)
        if self._probabilities is not None:
            self._probabilities.end_fold(padded(self, input_image)[1])
        return logits

    def _internal_predict_sliding_window_return_logits(
        self, data: torch.Tensor, slicers: list[tuple], do_on_device: bool = True
    ) -> torch.Tensor:
        if self._probabilities is not None:
            weight = tile_weight(self, self.device if do_on_device else torch.device("cpu"))
            self._probabilities.begin_fold(data.shape[1:], slicers, weight)
        return super()._internal_predict_sliding_window_return_logits(data, slicers, do_on_device)

    @torch.inference_mode()
    def _internal_maybe_mirror_and_predict(self, x: torch.Tensor) -> torch.Tensor:
        if self._probabilities is None:
            return super()._internal_maybe_mirror_and_predict(x)
        axes_of_copies = mirrorings(self.allowed_mirroring_axes if self.use_mirroring else None)
        # one copy after the other, in nnU-Net's order, so that the bits are its
        copies = (torch.flip(self.network(torch.flip(x, axes)), axes) for axes in axes_of_copies)
        total = next(copies)
        probabilities = self._of_logits(total)
        for copy in copies:
            total += copy
            probabilities += self._of_logits(copy)
        self._probabilities.add_tile(probabilities / len(axes_of_copies))
        return total / len(axes_of_copies) if len(axes_of_copies) > 1 else total

    def _of_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities `(heads, *patch)` of a tile's logits `(1, heads, *patch)`."""
        return self.label_manager.apply_inference_nonlin(logits[0].float() / self.temperature)
