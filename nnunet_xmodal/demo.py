"""The whole way in one process: raw data → plan → preprocess → train → predict → table → figure.

nnU-Net reads a part of its environment when it is imported, so it is imported inside of functions here, after
`_set_environment`.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic

from nnunet_xmodal import discovery
from nnunet_xmodal.data.atomic_files import write_atomically, write_json
from nnunet_xmodal.data.phantoms import write_phantom_dataset
from nnunet_xmodal.demo_cases import predict_and_draw
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.progress import Progress, clock

DEVICES = ("auto", "cpu", "cuda", "mps")
DEFAULT_TRAINERS = ("nnUNetTrainer", "nnUNetTrainerCSAD")
PHANTOMS = "Dataset950_Phantom"
TRAINING_PHANTOMS = 20
PLANS = "nnUNetPlans"


@dataclass
class Demo:
    """
    Attributes:
        folder: gets raw data, preprocessed data, results, predictions, table, figure and a log.
        epochs, iterations: length of each training; part of the trainer's name, so that lengths do not mix.
        folds: the first so many of nnU-Net's five.
        configuration: of nnU-Net's plans; a copy with `batch_size` is added to them and trained.
        dataset: raw dataset that takes the place of phantoms.
        cases: new cases that are predicted and shown.
        seed: of the phantoms.

    Raises:
        XModalError: for values that make no sense, before anything is written.
    """

    folder: Path
    device: str = "auto"
    epochs: int = 6
    iterations: int = 30
    folds: int = 5
    trainers: Sequence[str] = DEFAULT_TRAINERS
    configuration: str = "2d"
    batch_size: int = 8
    dataset: Path | None = None
    cases: int = 3
    seed: int = 0

    def __post_init__(self):
        self.folder = Path(self.folder).resolve()
        self.dataset = Path(self.dataset).resolve() if self.dataset is not None else None
        for name in ("epochs", "iterations", "folds", "batch_size", "cases"):
            if getattr(self, name) < 1:
                raise XModalError(f"--{name} is {getattr(self, name)}: take 1 or more.")
        if self.seed < 0:
            raise XModalError(f"--seed is {self.seed}: take 0 or more.")
        if self.folds > 5:
            raise XModalError(f"--folds is {self.folds}, but nnU-Net's split has five: take 1 to 5.")
        _check_trainers(self.trainers)
        if self.dataset is not None:
            _check_dataset(self.dataset)

    # -- names and places ---------------------------------------------------------------------------------------

    @property
    def dataset_name(self) -> str:
        return PHANTOMS if self.dataset is None else self.dataset.name

    @property
    def raw(self) -> Path:
        """The folder of the raw dataset."""
        return self.dataset or self.folder / "nnUNet_raw" / PHANTOMS

    @property
    def preprocessed(self) -> Path:
        return self.folder / "nnUNet_preprocessed" / self.dataset_name

    @property
    def trained_configuration(self) -> str:
        return f"{self.configuration}_b{self.batch_size}"

    def of_length(self, trainer: str) -> str:
        return f"{trainer}_{self.epochs}epochs_{self.iterations}its"

    def model(self, trainer: str) -> Path:
        identifier = f"{self.of_length(trainer)}__{PLANS}__{self.trained_configuration}"
        return self.folder / "nnUNet_results" / self.dataset_name / identifier

    def fold(self, trainer: str, fold: int) -> Path:
        return self.model(trainer) / f"fold_{fold}"

    def predictions(self, trainer: str) -> Path:
        return self.folder / "predictions" / self.of_length(trainer)

    @cached_property
    def dataset_json(self) -> dict:
        return json.loads((self.raw / "dataset.json").read_text(encoding="utf-8"))

    def validation_cases(self, fold: int) -> list[str]:
        return _read(self.preprocessed / "splits_final.json")[fold]["val"]

    # -- the walk -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._claim_folder()
        self._set_environment()
        progress = Progress(self.folder / "log.txt")
        progress.say(f"everything is written to {self.folder}; what nnU-Net prints goes to log.txt there")
        if self.dataset is None:
            with progress.step(f"phantoms: {TRAINING_PHANTOMS} for training, {self.cases} new"):
                write_phantom_dataset(self.raw, TRAINING_PHANTOMS, self.cases, self.seed)
        with progress.step("loading nnU-Net"):
            device = self._torch_device()
        progress.say(f"device: {device}")
        self._plan_and_preprocess(progress)
        self._train(progress, device)
        predict_and_draw(self, progress, device)
        print(f"\n{self._write_table()}\n")
        progress.say(f"table: {self.folder / 'results.md'}")
        progress.say(f"cases: {self.folder / 'cases.png'}")

    def _claim_folder(self) -> None:
        """Writes down what the data of this demo are, or compares.

        Trainers, folds, lengths and configurations have names and folders of their own: other ones are added.
        """
        ours = str(self.dataset or f"phantoms of seed {self.seed}")
        record = self.folder / "demo.json"
        if record.is_file():
            theirs = _read(record)["data"]
            if theirs != ours:
                raise XModalError(
                    f"{self.folder} holds a demo on {theirs}, but this one is to run on {ours}: take another --folder, "
                    "or delete that one."
                )
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise XModalError(f"{self.folder} exists and is no folder of this demo: take another --folder.")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json({"data": ours}, record)

    def _set_environment(self) -> None:
        os.environ["nnUNet_raw"] = str(self.raw.parent)
        os.environ["nnUNet_preprocessed"] = str(self.folder / "nnUNet_preprocessed")
        os.environ["nnUNet_results"] = str(self.folder / "nnUNet_results")
        # every validation starts pools of this size, and every process of theirs loads torch
        os.environ["nnUNet_def_n_proc"] = "1"
        os.environ["nnUNet_n_proc_DA"] = "1"
        # compiling takes longer than these trainings
        os.environ.setdefault("nnUNet_compile", "false")
        discovery.register()

    def _torch_device(self):
        import nnunetv2.run.run_training  # noqa: F401  the slow import, under its own line of progress
        import torch

        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        name = self.device
        if name == "auto":
            name = "cuda" if available["cuda"] else "cpu"
        if not available[name]:
            usable = ", ".join(device for device, is_there in available.items() if is_there)
            raise XModalError(f"--device {name} is not available to torch on this machine: take one of {usable}.")
        return torch.device(name)

    def _plan_and_preprocess(self, progress: Progress) -> None:
        from nnunetv2.experiment_planning import plan_and_preprocess_api as api

        from nnunet_xmodal.data.image_checks import check_cases, training_cases

        dataset_id = int(self.dataset_name[7:10])
        plans_file = self.preprocessed / f"{PLANS}.json"
        known = _configurations(plans_file)
        if not known:
            with progress.step("checking images"):
                check_cases(training_cases(self.raw, self.dataset_json), self.dataset_json, progress=False)
            with progress.step("fingerprint and plan"):
                api.extract_fingerprint_dataset(dataset_id, num_processes=1)
                api.plan_experiment_dataset(dataset_id)
            known = _configurations(plans_file)
        if self.configuration not in known:
            raise XModalError(
                f"--configuration {self.configuration} is not in nnU-Net's plans for {self.dataset_name}: take one of "
                f"{', '.join(name for name, content in known.items() if 'inherits_from' not in content)}."
            )
        # the copy is added last: it says that its data are preprocessed
        if any(content.get("inherits_from") == self.configuration for content in known.values()):
            progress.say("planned and preprocessed before: skipped")
        else:
            with progress.step("preprocessing"):
                api.preprocess_dataset(dataset_id, PLANS, (self.configuration,), num_processes=[1])
        if self.trained_configuration not in known:
            plans = _read(plans_file)
            copy = {"inherits_from": self.configuration, "batch_size": self.batch_size}
            write_json({**plans, "configurations": {**known, self.trained_configuration: copy}}, plans_file)

    def _train(self, progress: Progress, device) -> None:
        """Fold after fold, all trainers on each: an interrupted demo holds comparable trainings."""
        from nnunetv2.run.run_training import run_training

        # no loader processes; planning would fail with this value
        os.environ["nnUNet_n_proc_DA"] = "0"
        todo = [(fold, trainer) for fold in range(self.folds) for trainer in self.trainers]
        finished = [job for job in todo if _is_finished(self.fold(job[1], job[0]))]
        if finished:
            progress.say(f"{len(finished)} of {len(todo)} trainings were finished before: skipped")
            todo = [job for job in todo if job not in finished]
        seconds: dict[str, list[float]] = {trainer: [] for trainer in self.trainers}
        for index, (fold, trainer) in enumerate(todo):
            folder = self.fold(trainer, fold)
            checkpoints = _readable_checkpoints(folder)
            validate_only = "checkpoint_final.pth" in checkpoints
            verb = "validating" if validate_only else "continuing" if checkpoints else "training"
            began = monotonic()
            with progress.step(f"{verb} {trainer}, fold {fold} ({index + 1} of {len(todo)})") as results:
                run_training(
                    self.dataset_name,
                    self.trained_configuration,
                    fold,
                    self.of_length(trainer),
                    PLANS,
                    continue_training=bool(checkpoints) and not validate_only,
                    only_run_validation=validate_only,
                    device=device,
                )
                seconds[trainer].append(monotonic() - began)
                dice = _read(folder / "validation" / "summary.json")["foreground_mean"]["Dice"]
                results.append(f"Dice {100 * dice:.1f}")
                left = _estimate([trainer for _, trainer in todo[index + 1 :]], seconds)
                results.append(f"about {clock(left)} of training left" if left else "last training")

    def _write_table(self) -> str:
        from nnunet_xmodal.evaluation.overlap import overlap_table, read_cases

        table = overlap_table(
            {
                trainer: [read_cases(self.fold(trainer, n) / "validation/summary.json") for n in range(self.folds)]
                for trainer in self.trainers
            }
        )
        data = f"phantoms of seed {self.seed}" if self.dataset is None else f"`{self.dataset_name}`"
        text = (
            f"# nnUNetXModal_demo\n\nCross-validation on {data}: configuration {self.configuration}, "
            f"{self.epochs} epochs of {self.iterations} steps with {self.batch_size} samples, final checkpoints. "
            "Such short trainings show that everything works, not which method is better.\n\n"
            f"{table}\n\n![new cases](cases.png)\n"
        )
        write_atomically(self.folder / "results.md", lambda name: Path(name).write_text(text, encoding="utf-8"))
        return table


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
    dataset = _read(folder / "dataset.json")
    if "file_ending" not in dataset:
        raise XModalError(f'{folder / "dataset.json"} has no "file_ending": add for example ".nii.gz".')
    n_cases = len(list((folder / "labelsTr").glob(f"*{dataset['file_ending']}")))
    if n_cases < 5:
        raise XModalError(
            f"--dataset {folder} holds {n_cases} training cases in labelsTr, but five folds need at least 5: add cases."
        )


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _is_finished(fold: Path) -> bool:
    try:
        summary = _read(fold / "validation" / "summary.json")
    except (OSError, ValueError):  # absent, or cut off when the validation was interrupted
        return False
    return "foreground_mean" in summary and (fold / "checkpoint_final.pth").is_file()


def _configurations(plans_file: Path) -> dict:
    """Those of the plans; empty without plans, or with half a file."""
    try:
        return _read(plans_file)["configurations"]
    except (OSError, ValueError):
        return {}


def _readable_checkpoints(fold: Path) -> list[str]:
    """Names of a fold's checkpoints; those that stock trainers were interrupted in writing are removed."""
    import torch

    readable = []
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth"):
        path = fold / name
        if path.is_file():
            try:
                torch.load(path, map_location="cpu", weights_only=False)
                readable.append(name)
            except Exception:  # whatever unpickling half a file raises
                path.unlink()
    return readable


def _estimate(left: Sequence[str], seconds: Mapping[str, Sequence[float]]) -> float:
    """Seconds for the trainings that are left; a trainer that was not timed yet counts like the slowest that was."""
    means = {trainer: sum(values) / len(values) for trainer, values in seconds.items() if values}
    return sum(means.get(trainer, max(means.values())) for trainer in left)
