"""The request for a prediction: images, model and settings; the Python interface of `nnUNetXModal_predict`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from nnunet_xmodal.errors import XModalError


class NamedCase(Protocol):
    """A case of any kind of request."""

    @property
    def name(self) -> str:
        """Return the name that its files begin with."""


Case = TypeVar("Case", bound=NamedCase)


@dataclass(frozen=True)
class PredictionRequest:
    """A folder of images, a trained model, and what to write.

    Attributes:
        images: folder of `<case>_0000`, `<case>_0001`, … with the ending of the training images.
        output: folder; made if it does not exist.
        dataset: name or number of the dataset that the model was trained on.
        configuration, trainer, plans: of the model, as nnU-Net calls them.
        folds: numbers, or "all"; their predictions are averaged.
        checkpoint: name of the file in a fold's folder.
        step_size: of the sliding window, as a share of the patch.
        mirroring: average over mirrored copies where the training mirrored.
        save_probabilities: write them too, for ensembles.
        continue_prediction: skip cases whose files are all there in full.
        previous_stage: folder of label maps for the second stage of a cascade.
        num_parts, part_id: how many requests share the cases, and which of them this is, from 0.
        device: "cuda", "cpu" or "mps".
        preprocessing_processes, export_processes: 0 and 0 for this process alone.
        on_device: keep results on the GPU while a case is predicted.
        progress, verbose: bars, and nnU-Net's own words.
        trust: believe the model's files, which may then run code of whoever made them.
        options: of the model's kind, by name, e.g. `{"roi": "masks", "margin": 5.0}`; see `tasks/*/options.py`.
    """

    images: Path
    output: Path
    dataset: str | int
    configuration: str
    trainer: str = "nnUNetTrainer"
    plans: str = "nnUNetPlans"
    folds: Sequence[int | str] = (0, 1, 2, 3, 4)
    checkpoint: str = "checkpoint_final.pth"
    step_size: float = 0.5
    mirroring: bool = True
    save_probabilities: bool = False
    continue_prediction: bool = False
    previous_stage: Path | None = None
    num_parts: int = 1
    part_id: int = 0
    device: str = "cuda"
    preprocessing_processes: int = 3
    export_processes: int = 3
    on_device: bool = True
    progress: bool = True
    verbose: bool = False
    trust: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def checking_processes(self) -> int:
        """Return how many processes look at the images."""
        return max(1, self.preprocessing_processes)

    @property
    def part(self) -> str:
        """Return what names of files carry that each part writes, "" for a request that has no others."""
        return f"_part{self.part_id}of{self.num_parts}" if self.num_parts > 1 else ""

    def of_this_part(self, cases: Sequence[Case]) -> Sequence[Case]:
        """Select the cases of this part, as nnU-Net deals them out.

        Raises:
            XModalError: for a part that there is not.
        """
        if not 0 <= self.part_id < self.num_parts:
            raise XModalError(f"-part_id {self.part_id} is not between 0 and {self.num_parts - 1}.")
        return cases[self.part_id :: self.num_parts]
