"""Prediction with few-shot models: supports matched by position, and supports that the model has never seen."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference import predict_from_raw_data
from torch import nn
from tqdm import tqdm

from nnunet_xmodal.datasets.cases import Case, cases_in_folder, training_cases
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dataset_json import check_dataset_json, read_dataset_json
from nnunet_xmodal.files.folders import check_input_folder
from nnunet_xmodal.files.labels import foreground
from nnunet_xmodal.files.stand_ins import stand_ins
from nnunet_xmodal.networks.prototype_network import PrototypeNetwork
from nnunet_xmodal.numerics import unwrapped
from nnunet_xmodal.prediction.export import WholeFilesPredictor
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.prediction.trained_axes import ALWAYS
from nnunet_xmodal.prediction.whole_cases import cases_to_segment, check_and_predict
from nnunet_xmodal.tasks.few_shot.extents import (
    Extents,
    NotingConfiguration,
    check_extents,
    chunks_at,
    read_extents,
    write_extents,
)
from nnunet_xmodal.tasks.few_shot.largest_component import keep_largest_components
from nnunet_xmodal.tasks.few_shot.options import FewShotOptions
from nnunet_xmodal.tasks.few_shot.support import fill_support, labels_to_segment, relative_position


class FewShotPredictor(WholeFilesPredictor):
    """nnU-Net's predictor, which also knows where in its scan a slice lies.

    A slice at the relative position r of its scan is segmented by the chunk whose support slices lie nearest to r in
    theirs. Positions run along the patient: scans are turned to the axes of the training cases, or of the support where
    these are not known. Scans that begin and end at about the same places in the body suit this; `match =
    "best"` asks all chunks and takes the best score, as stock nnUNetv2_predict has to, which knows no position.

    Attributes:
        match: "position" or "best".
        extents: of organs that are known, see `extents`; these are segmented between their first and last slice, by
            the chunk at a slice's place in the organ.
    """

    options_class = FewShotOptions
    options = FewShotOptions()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._noted: dict[str, Any] = {}  # name and properties of the case that is predicted

    @classmethod
    def described_label_maps(cls, request: PredictionRequest, dataset_json: Mapping) -> Mapping | None:
        """Return the dataset.json of `--support` where it is given, and else the model's.

        Raises:
            XModalError: see `use_support`.
        """
        support = request.options.get("support")
        return dataset_json if support is None else _described(Path(support))

    match = "position"
    extents: Extents = {}
    turns = ALWAYS  # positions are along the patient, not along the array

    def predict_folder(self, request: PredictionRequest) -> None:
        """Segment every case, by `--support` where it is given and else by the model's own.

        Raises:
            XModalError: before anything is written, for the first faulty case, and see `use_support`.
        """
        found = cases_in_folder(request.images, self.dataset_json)
        cases = cases_to_segment(found, request, self.dataset_json)
        self.match = self.options.match or self.match
        if self.options.support is not None:
            check_input_folder(self.options.support)
            for line in self.use_support(Path(self.options.support), request.progress):
                print("Support:", line)
        if self.options.extents is not None:
            self.use_extents(Path(self.options.extents), cases, [case.name for case in found])
        check_and_predict(self, cases, request)

    def option_in_file(self, name: str, value: Any, case: str, folder: Path) -> Any:
        """Write extents of one case, label → (first, last slice), to a table; other values stay.

        Raises:
            XModalError: for what is no pair of slices.
        """
        if name != "extents" or not isinstance(value, Mapping):
            return value
        return str(write_extents(value, case, folder))

    def use_extents(self, file: Path, cases: Sequence[Case], names: Collection[str]) -> None:
        """Look for organs only where a table says that they are.

        Args:
            cases: that are predicted now.
            names: that the table may have; of cases that were predicted before, or are by another part, too.

        Raises:
            XModalError: see `read_extents` and `check_extents`.
        """
        extents = read_extents(file, names, self.dataset_json, self.label_manager)
        check_extents(extents, cases, self.plans_manager)
        self.extents, self._noted = extents, {}
        configuration = self.configuration_manager.configuration
        self.configuration_manager = NotingConfiguration(configuration, self._noted, self.dataset_json["file_ending"])

    def use_support(self, folder: Path, progress: bool = True) -> list[str]:
        """Segment what the cases of a folder show, without training: other labels, other names, any number of them.

        Args:
            folder: with dataset.json, imagesTr and labelsTr, as a raw dataset of nnU-Net; every case is one shot, and
                further slices where a label is in fewer cases.

        Returns:
            A line per label: the slices that it is segmented by.

        Raises:
            XModalError: for a folder without these, other channels than the model's, faulty images, no label but
                background, and labels that no case shows.
        """
        own = _described(folder)
        theirs, ours = channel_names_of(own), channel_names_of(self.dataset_json)
        if len(theirs) != len(ours):
            raise XModalError(
                f"{folder} has {len(theirs)} channels and the model reads {len(ours)} ({', '.join(ours)}): support and "
                "images need the same channels."
            )
        cases = training_cases(folder, own)
        check_cases(cases, own, 1, progress, doing=f"Checking {len(cases)} support cases")
        dataset_json = {**own, "file_ending": self.dataset_json["file_ending"]}
        label_manager = self.plans_manager.get_label_manager(dataset_json)
        dataset = _Preprocessed(self, own, cases, progress)
        old: PrototypeNetwork = unwrapped(self.network)
        labels = labels_to_segment(label_manager)
        network = PrototypeNetwork(
            old.backbone,
            old.prototypes,
            len(labels),
            old.cross_reference,
            old.chunks,
            len(cases),
            old.input_channels,
            old.size,
            background=not label_manager.has_regions,
            padded_by_background=old.padded_by_background,
        )
        lines = fill_support(network, dataset, label_manager, self.plans_manager.transpose_forward)
        if not network.support.exists.any():
            raise XModalError(f"no case of {folder} shows any of its labels: label one.")
        support = {key: value for key, value in network.state_dict().items() if key.startswith("support.")}
        self.list_of_parameters = [
            {key: value for key, value in parameters.items() if not key.startswith("support.")} | support
            for parameters in self.list_of_parameters
        ]
        self.network, self.dataset_json, self.label_manager = network, dataset_json, label_manager
        return lines

    def predict_from_data_iterator(self, data_iterator: Iterable[dict], *args: Any, **kwargs: Any) -> Any:
        """Predict preprocessed cases, as nnU-Net does, and know which case it is."""
        return super().predict_from_data_iterator(self._noting(data_iterator), *args, **kwargs)

    def _noting(self, cases: Iterable[dict]) -> Iterator[dict]:
        for case in cases:
            if case["ofile"] is not None:
                self._noted.update(case=Path(case["ofile"]).name, properties=case["data_properties"])
            yield case

    def predict_logits_from_preprocessed_data(self, data: torch.Tensor) -> torch.Tensor:
        """Predict as nnU-Net does: `(C, slices, H, W)` → `(heads, slices, H, W)`."""
        logits = super().predict_logits_from_preprocessed_data(data)
        if self.options.largest_component:
            return keep_largest_components(logits, self.label_manager.has_regions)
        return logits

    def _internal_predict_sliding_window_return_logits(
        self, data: torch.Tensor, slicers: list[tuple], do_on_device: bool = True
    ) -> torch.Tensor:
        """nnU-Net's, slice by slice: `(C, slices, H, W)` → `(heads, slices, H, W)`."""
        network, progress, logits = self.network, self.allow_tqdm, []
        slices = data.shape[1]
        chunks = chunks_at(
            self.extents.get(self._noted.get("case", ""), {}),
            self._noted.get("properties", {}),
            self.plans_manager.transpose_forward,
            slices,
            unwrapped(network).chunks,
        )
        if self.match == "best" and not any(chunks):
            return super()._internal_predict_sliding_window_return_logits(data, slicers, do_on_device)
        of_slice: dict[int, list[tuple]] = {}
        for slicer in slicers:  # (channels, slice, rows, columns)
            of_slice.setdefault(slicer[1], []).append((slicer[0], 0, *slicer[2:]))
        try:
            self.allow_tqdm = False
            with stand_ins({"empty_cache": lambda device: None}, predict_from_raw_data):  # not for every slice
                for index, tiles in tqdm(sorted(of_slice.items()), disable=not progress):
                    position = None if self.match == "best" else relative_position(index, slices)
                    self.network = _AtSlice(network, position, chunks[index])
                    part = data[:, index : index + 1]
                    logits.append(super()._internal_predict_sliding_window_return_logits(part, tiles, do_on_device))
        except BaseException:
            logits.clear()  # nnU-Net tries again, with results on the CPU, while the error still holds this frame
            raise
        finally:
            self.network, self.allow_tqdm = network, progress
        return torch.cat(logits, 1)


class _AtSlice(nn.Module):
    """A network as nnU-Net calls it, one tile at a time, of a slice whose place is known."""

    def __init__(self, network: nn.Module, position: float | None, chunks: dict[int, int | None]) -> None:
        super().__init__()
        self.network, self.position, self.chunks = network, position, chunks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a tile."""
        return unwrapped(self.network).segment(x, position=self.position, of_label=self.chunks)


class _Preprocessed:
    """Support cases as the plans preprocess them, in memory, with as much of nnU-Net's dataset as the support needs."""

    def __init__(self, predictor: FewShotPredictor, dataset_json: dict, cases: list[Case], progress: bool) -> None:
        preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
        plans = (predictor.plans_manager, predictor.configuration_manager, dataset_json)
        self.cases = {}
        for case in tqdm(cases, desc="Preprocessing support", disable=not progress):
            images = [str(image) for image in case.images]
            self.cases[case.name] = preprocessor.run_case(images, str(case.label), *plans)
        self.identifiers = list(self.cases)

    def load_case(self, case: str) -> tuple[np.ndarray, np.ndarray, None, dict]:
        """Return a case as nnU-Net's dataset does."""
        data, segmentation, properties = self.cases[case]
        return data, segmentation, None, properties


def _described(folder: Path) -> dict:
    """Read the dataset.json of a folder of supports.

    Raises:
        XModalError: without dataset.json, imagesTr or labelsTr, and with no label but background.
    """
    for name in ("dataset.json", "imagesTr", "labelsTr"):
        if not (folder / name).exists():
            raise XModalError(
                f"{folder / name} is missing: --support takes a folder like a raw dataset of nnU-Net, with "
                "dataset.json, imagesTr and labelsTr."
            )
    dataset_json = read_dataset_json(folder / "dataset.json")
    for key in ("channel_names", "labels", "file_ending"):
        if key not in dataset_json:
            raise XModalError(f'{folder / "dataset.json"} has no "{key}", which nnU-Net needs.')
    if not foreground(dataset_json):
        raise XModalError(f"{folder / 'dataset.json'} names no label but background: name what is to be segmented.")
    check_dataset_json(dataset_json, folder / "dataset.json")
    return dataset_json
