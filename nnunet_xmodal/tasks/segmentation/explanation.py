"""Explain every case of a folder: Shapley values, Grad-CAM, attention maps."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nnunet_xmodal.datasets.cases import Case, cases_in_folder, label_values
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.files.labels import foreground, ignore_label
from nnunet_xmodal.files.whole_labels import rounded_labels
from nnunet_xmodal.prediction.preprocessed import preprocessed
from nnunet_xmodal.prediction.turning import as_stored
from nnunet_xmodal.prediction.whole_cases import cases_to_segment, with_previous_stage
from nnunet_xmodal.tasks.segmentation.explanation_files import ExplainedCase, ExplanationFiles
from nnunet_xmodal.tasks.segmentation.explanation_maps import HeatMap, attention_heat, grad_cam_heat
from nnunet_xmodal.tasks.segmentation.explanation_record import check_record, write_record
from nnunet_xmodal.tasks.segmentation.explanation_request import ATTENTION, GRADCAM, SHAPLEY, ExplanationRequest
from nnunet_xmodal.tasks.segmentation.players import Players, players_of
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor
from nnunet_xmodal.tasks.segmentation.shapley_of_case import (
    Shares,
    segmentation_of,
    segmentations_of_subsets,
    shares_of,
)


class Explanation:
    """One request, of a model that is loaded.

    Raises:
        XModalError: for a label that dataset.json does not name, and players that Shapley values cannot be told of.
    """

    def __init__(self, predictor: SegmentationPredictor, request: ExplanationRequest) -> None:
        self.predictor, self.request, self.asked = predictor, request, request.prediction
        self.dataset_json = predictor.dataset_json
        known = foreground(self.dataset_json)
        for label in request.labels:
            if label not in known:
                raise XModalError(f"--label {label} is no label of dataset.json: take from {', '.join(known)}.")
        self.labels = {name: known[name] for name in (request.labels or known)}
        self.players: Players | None = players_of(predictor, request.of) if SHAPLEY in request.what else None

    def run(self) -> None:
        """Check every image, explain one case after the other, and write tables and figures.

        Raises:
            XModalError: before anything is written, for faulty images and masks of the organ, missing references, and
                an output that holds explanations of something else.
        """
        asked, dataset_json = self.asked, self.dataset_json
        cases = [self._with_reference(case) for case in cases_in_folder(asked.images, dataset_json)]
        cases = cases_to_segment(cases, asked, dataset_json)
        doing = f"Checking {len(cases)} cases"
        check_cases(cases, dataset_json, asked.checking_processes, asked.progress, doing=doing)
        if asked.previous_stage is not None:
            staged, doing = with_previous_stage(cases, asked, dataset_json), "Checking the first stage's label maps"
            check_cases(staged, dataset_json, asked.checking_processes, asked.progress, doing=doing)
        names = [case.name for case in cases]
        check_record(Path(asked.output), self.request, names)
        self.predictor.crop(cases, asked)
        files = ExplanationFiles(asked.output, self.predictor)
        by_name, recorded = {case.name: case for case in cases}, False
        for prepared in tqdm(self._preprocessed(cases), "Explaining", len(cases), disable=not asked.progress):
            data = prepared["data"]  # large cases arrive as the name of a file
            image = torch.from_numpy(np.load(data)) if isinstance(data, str) else torch.as_tensor(data)
            case = by_name[Path(prepared["ofile"]).name]
            explained = self._explained(case, image, prepared["data_properties"])
            if not recorded:  # the first case tells whether any can be explained so
                write_record(Path(asked.output), self.request, names)
                recorded = True
            files.write(explained)
            if isinstance(data, str):
                Path(data).unlink()

    def _with_reference(self, case: Case) -> Case:
        folder = self.request.references
        if folder is None:
            return case
        file = Path(folder) / f"{case.name}{self.dataset_json['file_ending']}"
        if not file.is_file():
            raise XModalError(f"{file} is missing: --gt needs a reference of every case.")
        return Case(case.name, case.images, file, label_values(self.dataset_json))

    def _preprocessed(self, cases: list[Case]) -> Iterable[dict]:
        asked, ending = self.asked, self.dataset_json["file_ending"]
        previous: list[str | None] | None = None
        if asked.previous_stage is not None:
            previous = [str(Path(asked.previous_stage) / f"{case.name}{ending}") for case in cases]
        images = [[str(image) for image in case.images] for case in cases]
        outputs = [str(Path(asked.output) / case.name) for case in cases]
        return preprocessed(self.predictor, images, outputs, asked.preprocessing_processes, previous)

    def _explained(self, case: Case, image: torch.Tensor, properties: dict) -> ExplainedCase:
        shares: list[Shares] = []
        if self.players is None:
            segmentation = segmentation_of(self.predictor, image, properties)
        else:
            of_subsets = list(segmentations_of_subsets(self.predictor, self.players, image, properties))
            segmentation = of_subsets[-1]
            shares = self._shares(case, of_subsets, properties)
        maps: list[HeatMap] = []
        if GRADCAM in self.request.what:
            maps += grad_cam_heat(self.predictor, image, properties, self.labels, self.request.levels)
        if ATTENTION in self.request.what:
            maps += attention_heat(self.predictor, image, properties)
        players = () if self.players is None else self.players.names
        return ExplainedCase(case, players, shares, maps, segmentation, self.labels, properties)

    def _shares(self, case: Case, of_subsets: list[np.ndarray], properties: dict) -> list[Shares]:
        stored = [as_stored(segmentation, properties)[0] for segmentation in of_subsets]
        spacing = as_stored(of_subsets[0], properties)[1]["spacing"]
        reference = None
        if case.label is not None:
            voxels, _ = read_image(case.label, self.dataset_json, is_label=True)
            reference = rounded_labels(voxels[0]).reshape(stored[0].shape)
        return shares_of(stored, self.labels, spacing, reference, ignore_label(self.dataset_json))
