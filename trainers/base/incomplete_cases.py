"""Training on cases that lack channels, whose networks are told per sample what there is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnunet_trainer
from torch import nn

from nnunet_xmodal.datasets.absence_marks import AbsenceMarkedClass
from nnunet_xmodal.datasets.presence import check_some_stream, missing_of, present_streams
from nnunet_xmodal.datasets.streams import channel_names_of, distinct_channel_names
from nnunet_xmodal.evaluation.by_presence import add_presence
from nnunet_xmodal.files.stand_ins import stand_ins
from nnunet_xmodal.networks.of_present_streams import OfMarkedStreams, OfSamplesStreams
from nnunet_xmodal.replaced import replaced

if TYPE_CHECKING:
    from nnunet_xmodal.trainers.base.trainer import XModalTrainer as _Trainer
else:
    _Trainer = object  # a mixin, whose methods our trainer has behind it


class TrainsOnIncompleteCases(_Trainer):
    """A mixin before a trainer whose network takes `(x, present)`: cases may lack streams, in training and validation.

    Of cases that have everything, and of datasets of such, nothing changes. The folder of the validation then says in
    `summary.json`, under "xmodal", what every case lacks and what the cases of each pattern reach.
    """

    takes_incomplete_cases = True

    @property
    def can_be_absent(self) -> list[list[int]]:
        """Return the channels of each stream, which is absent where one of them is missing."""
        return self.plans_manager.plans["xmodal"].get("can_be_absent", self.plans_manager.plans["xmodal"]["streams"])

    def get_tr_and_val_datasets(self) -> tuple[nnUNetBaseDataset, nnUNetBaseDataset]:
        """Return the datasets of training and validation, once every case has a stream."""
        datasets = super().get_tr_and_val_datasets()
        names = distinct_channel_names(self.dataset_json)
        check_some_stream(self.missing, self.can_be_absent, names)
        if self.missing:
            lacking = [channel for channels in self.missing.values() for channel in channels]
            told = [f"{lacking.count(number)} without {name}" for number, name in enumerate(names) if number in lacking]
            self.print_to_log_file(f"Incomplete cases: {len(self.missing)}, {', '.join(told)}.")
        return datasets

    def train_step(self, batch: dict) -> dict:
        """Train on one batch, whose samples have the streams of their cases; return the loss."""
        with self._telling(batch["keys"]):
            return super().train_step(batch)

    def validation_step(self, batch: dict) -> dict:
        """Return nnU-Net's numbers of one batch, whose samples have the streams of their cases."""
        with self._telling(batch["keys"]):
            return super().validation_step(batch)

    @contextmanager
    def _telling(self, cases: Sequence[str]) -> Iterator[None]:
        """Within, `network(x)` is what the network says with what these cases have."""
        if not self.missing:
            yield
            return
        present = [present_streams(self.missing.get(case, ()), self.can_be_absent) for case in cases]
        with replaced(self, network=OfSamplesStreams(self.network, torch.tensor(present, device=self.device))):
            yield

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Let nnU-Net's validation, within, load cases that tell what they lack, for a network that listens."""
        predictor = partial(_Listening, self.can_be_absent, len(channel_names_of(self.dataset_json)))
        with (
            replaced(self, dataset_class=AbsenceMarkedClass(self.dataset_class)),
            stand_ins({"nnUNetPredictor": predictor}, nnunet_trainer),
        ):
            yield

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does; then say what cases of each pattern reach, if any lacks a channel."""
        super().perform_actual_validation(save_probabilities)
        if self.local_rank != 0:
            return
        _, cases = self.do_split()
        missing = missing_of([self.dataset_class(self.preprocessed_dataset_folder, cases)])
        if missing:
            names = distinct_channel_names(self.dataset_json)
            lacking = {case: [names[channel] for channel in channels] for case, channels in missing.items()}
            summary = Path(self.output_folder) / "validation" / "summary.json"
            for sentence in add_presence(summary, lacking, self.dataset_json["file_ending"]):
                self.print_to_log_file(sentence, also_print_to_console=True)


class _Listening(nnUNetPredictor):
    """nnU-Net's predictor, whose network takes channels with NaN for absent."""

    network: nn.Module  # set by nnU-Net

    def __init__(self, streams: Sequence[Sequence[int]], n_channels: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.streams, self.n_channels = streams, n_channels

    def manual_initialization(self, *args: Any) -> None:
        """Take the network that is given, and tell it what is absent."""
        super().manual_initialization(*args)
        self.network = OfMarkedStreams(self.network, self.streams, self.n_channels)
