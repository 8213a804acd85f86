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
        configuration, trainer, plans: of the model, as nnU-Net calls them; without `model`, "" stands for
            nnUNetTrainer and nnUNetPlans, with it for what is there.
        folds: numbers, or "all"; their predictions are averaged. None named: with `model` all that are there, else 0
            to 4.
        checkpoint: name of the file in a fold's folder.
        step_size: of the sliding window, as a share of the patch.
        mirroring: average over mirrored copies where the training mirrored.
        save_probabilities: write them too, for ensembles.
        continue_prediction: skip cases whose files are all there in full.
        previous_stage: folder of label maps for the second stage of a cascade.
        num_parts, part_id: how many requests share the cases, and which of them this is, from 0.
        device: "cuda", "cpu" or "mps".
        preprocessing_processes, export_processes: 0 in either for this process alone.
        on_device: keep results on the GPU while a case is predicted.
        max_memory: in GB (10⁹ bytes), which one process then does with; results lie on the output's disk where they
            do not fit. None for no limit.
        progress, verbose: bars, and nnU-Net's own words.
        model: its folder, or one with several, or a zip; None for one in nnUNet_results, which `dataset` and
            `configuration` then name.
        trust: believe the model's files, which may then run code of whoever made them.
        options: of the model's kind, by name, e.g. `{"roi": "masks", "margin": 5.0}`; see `tasks/*/options.py`.

    Raises:
        XModalError: where neither `model` nor `dataset` and `configuration` say which model, and for numbers that make
            no sense.
    """

    images: Path
    output: Path
    dataset: str | int = ""
    configuration: str = ""
    trainer: str = ""
    plans: str = ""
    folds: Sequence[int | str] = ()
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
    max_memory: float | None = None
    progress: bool = True
    verbose: bool = False
    model: Path | None = None
    trust: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.max_memory is not None or 0 in (self.preprocessing_processes, self.export_processes):
            object.__setattr__(self, "preprocessing_processes", 0)
            object.__setattr__(self, "export_processes", 0)
        if self.max_memory is not None:
            if not self.max_memory > 0:
                raise XModalError(f"--max_memory takes gigabytes above 0, got {self.max_memory:g}.")
            object.__setattr__(self, "on_device", False)
        if self.model is not None:
            return
        if self.dataset == "" or not self.configuration:
            raise XModalError(
                "no model is named: give -m with its folder or zip, or -d and -c of one in nnUNet_results."
            )
        usual: dict[str, Any] = {"trainer": "nnUNetTrainer", "plans": "nnUNetPlans", "folds": (0, 1, 2, 3, 4)}
        for name, value in usual.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)

    def _check_numbers(self) -> None:
        if not 0 < self.step_size <= 1:
            raise XModalError(f"-step_size {self.step_size:g} is no share of a patch: take one above 0, up to 1.")
        for flag, number, least in (
            ("-npp", self.preprocessing_processes, 0),
            ("-nps", self.export_processes, 0),
            ("-num_parts", self.num_parts, 1),
        ):
            if number < least:
                raise XModalError(f"{flag} {number} is too few: give {least} or more.")

    @property
    def folders_read(self) -> dict[str, Path]:
        """Return flag → folder of everything that is read beside the model."""
        read = {"-i": self.images}
        if self.previous_stage is not None:
            read["-prev_stage_predictions"] = self.previous_stage
        texts = {name: value for name, value in self.options.items() if isinstance(value, str)}
        return read | {f"--{name}": Path(value) for name, value in texts.items() if Path(value).is_dir()}

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
