"""Settings of the demo and where its files lie."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.json_files import read_json

DEVICES = ("auto", "cpu", "cuda", "mps")
DEFAULT_TRAINERS = ("nnUNetTrainer", "nnUNetTrainerAnyStreams")
PHANTOMS = "Dataset950_ProstatePhantom"
PLANS = "nnUNetPlans"


@dataclass
class Demo:
    """The settings of a demo, and where its files are.

    Attributes:
        folder: gets raw data, preprocessed data, results, predictions, table, figure and a log.
        epochs, iterations: length of each training; part of the trainer's name, so that lengths do not mix.
        folds: the first so many of nnU-Net's five.
        configuration: of nnU-Net's plans; a copy with `batch_size` and `features` is added to them and trained.
        features: channels of the network's first level at most; the other levels are narrowed alike.
        processes: trainings at once; None takes two on a CPU of several cores, else one, in the demo's own process.
        dataset: raw dataset that takes the place of phantoms.
        cases: new cases that are predicted; the first few are shown.
        phantoms: for training.
        seed: of the phantoms.

    Raises:
        XModalError: for values that make no sense, before anything is written.
    """

    folder: Path
    device: str = "auto"
    epochs: int = 6
    iterations: int = 180
    folds: int = 3
    trainers: Sequence[str] = DEFAULT_TRAINERS
    configuration: str = "2d"
    batch_size: int = 2
    features: int = 16
    processes: int | None = None
    dataset: Path | None = None
    cases: int = 6
    phantoms: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        self.folder = Path(self.folder).resolve()
        self.dataset = Path(self.dataset).resolve() if self.dataset is not None else None
        for name in ("epochs", "iterations", "folds", "batch_size", "features", "processes", "cases"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise XModalError(f"--{name} is {value}: take 1 or more.")
        if self.seed < 0:
            raise XModalError(f"--seed is {self.seed}: take 0 or more.")
        if self.phantoms < 5:
            raise XModalError(f"--phantoms is {self.phantoms}, but five folds need at least 5: take 5 or more.")
        if self.folds > 5:
            raise XModalError(f"--folds is {self.folds}, but nnU-Net's split has five: take 1 to 5.")
        _check_trainers(self.trainers)
        if self.dataset is not None:
            _check_dataset(self.dataset)

    @property
    def data(self) -> str:
        """Describe in words what the demo runs on."""
        return str(self.dataset or f"{self.phantoms} prostate phantoms of seed {self.seed}")

    @property
    def dataset_name(self) -> str:
        """Return the full name of the dataset."""
        return PHANTOMS if self.dataset is None else self.dataset.name

    @property
    def raw(self) -> Path:
        """Return the folder of the raw dataset."""
        return self.dataset or self.folder / "nnUNet_raw" / PHANTOMS

    @property
    def preprocessed(self) -> Path:
        """Return the folder of the preprocessed dataset."""
        return self.folder / "nnUNet_preprocessed" / self.dataset_name

    @property
    def trained_configuration(self) -> str:
        """Return the name of the configuration that is trained."""
        return f"{self.configuration}_b{self.batch_size}_f{self.features}"

    def of_length(self, trainer: str) -> str:
        """Return the name of a trainer that trains as long as the demo says."""
        return f"{trainer}_{self.epochs}epochs_{self.iterations}its"

    def model(self, trainer: str) -> Path:
        """Return the folder that the folds of a trainer share."""
        identifier = f"{self.of_length(trainer)}__{PLANS}__{self.trained_configuration}"
        return self.folder / "nnUNet_results" / self.dataset_name / identifier

    def fold(self, trainer: str, fold: int) -> Path:
        """Return the folder of a fold."""
        return self.model(trainer) / f"fold_{fold}"

    def predictions(self, trainer: str, without: str = "") -> Path:
        """Return the folder of the new cases' predictions; `without` says what they lack, nothing if empty."""
        folder = self.folder / "predictions" / (f"without_{without}" if without else "complete")
        return folder / self.model(trainer).name

    @cached_property
    def dataset_json(self) -> dict:
        """Read the dataset.json of the raw dataset."""
        return read_json(self.raw / "dataset.json")

    def validation_cases(self, fold: int) -> list[str]:
        """Read which cases a fold validates on."""
        return read_json(self.preprocessed / "splits_final.json")[fold]["val"]


def _check_trainers(names: Sequence[str]) -> None:
    from nnunet_xmodal.trainers import TRAINERS

    known = ("nnUNetTrainer", *TRAINERS)
    for name in names:
        if name not in known:
            raise XModalError(
                f"--trainers names {name}, which is unknown here: take from {', '.join(known)}, and the length from "
                "--epochs and --iterations."
            )
        if names.count(name) > 1:
            raise XModalError(f"--trainers names {name} twice: once is enough.")


def _check_dataset(folder: Path) -> None:
    if not (folder / "dataset.json").is_file():
        raise XModalError(f"--dataset {folder} holds no dataset.json: give a folder in nnU-Net's raw format.")
    match = re.fullmatch(r"(Dataset\d{3}_).+", folder.name)
    if not match:
        raise XModalError(f"--dataset {folder} is not named DatasetXXX_Name with three digits: rename the folder.")
    same_number = [path.name for path in folder.parent.glob(f"{match[1]}*") if path.is_dir() and path != folder]
    if same_number:
        raise XModalError(f"{folder.parent} holds {same_number[0]} with the same number as {folder.name}: change one.")
    dataset = read_json(folder / "dataset.json")
    if "file_ending" not in dataset:
        raise XModalError(f'{folder / "dataset.json"} has no "file_ending": add for example ".nii.gz".')
    n_cases = len(list((folder / "labelsTr").glob(f"*{dataset['file_ending']}")))
    if n_cases < 5:
        raise XModalError(
            f"--dataset {folder} holds {n_cases} training cases in labelsTr, but five folds need at least 5: add cases."
        )
