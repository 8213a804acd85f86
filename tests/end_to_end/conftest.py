"""Real commands on tiny data: a planned dataset, made once, and a way to run commands on it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import SimpleITK as sitk
from filelock import FileLock

from nnunet_xmodal.discovery import PLUGIN_FOLDER
from nnunet_xmodal.phantoms.two_channel import write_phantom_dataset

BIN = Path(sys.executable).parent
TIMEOUT = 1200  # seconds; a busy machine is no fault of a command


class CommandServer:
    """Runs Python scripts, see command_server.py; its process starts with the first one and ends with the tests'."""

    process: subprocess.Popen | None = None
    environment = {
        "nnUNet_def_n_proc": "1",
        "OMP_NUM_THREADS": "1",
        "BLOSC_NTHREADS": "1",
        "NUMEXPR_NUM_THREADS": "1",
    }

    @classmethod
    def ask(cls, request: dict) -> int | None:
        if not hasattr(os, "fork"):
            pytest.skip("commands run in forks of one process, and Windows has none")
        if cls.process is None or cls.process.poll() is not None:
            server = Path(__file__).with_name("command_server.py")
            cls.process = subprocess.Popen(
                [sys.executable, str(server)],
                env=os.environ | cls.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        print(json.dumps(request), file=cls.process.stdin, flush=True)
        return json.loads(cls.process.stdout.readline())


class Command:
    """A command that runs, in a process group of its own.

    Attributes:
        pid: of its process and of its group.
        output_files: what the names of the files begin with that it, and all that it starts, print to.
    """

    def __init__(self, script: Path, arguments: list[str], environment: dict[str, str], folder: Path, spawn: bool):
        self.name = f"{script.name} {' '.join(arguments)}"
        self._folder = tempfile.TemporaryDirectory()
        self.output_files = f"{self._folder.name}/command"
        self._status: int | None = None
        start = {
            "script": str(script),
            "arguments": arguments,
            "environment": environment,
            "folder": str(folder),
            "output": self.output_files,
            "spawn": spawn,
        }
        self.pid: int = CommandServer.ask({"start": start})

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Exit status, negative for a signal.

        Raises:
            TimeoutError: after so many seconds; its group has been killed then.
        """
        status = self._wait(timeout)
        if status is None:
            self.kill()
            raise TimeoutError(f"{self.name} took more than {timeout} s.")
        return status

    def kill(self, number: int | None = None) -> None:
        """Sends a signal to all of its group; SIGKILL by default."""
        os.killpg(self.pid, signal.SIGKILL if number is None else number)

    def send_signal(self, number: int) -> None:
        """Sends a signal to its first process."""
        os.kill(self.pid, number)

    def output(self) -> str:
        """What it has written until now, stdout followed by stderr."""
        return "".join(Path(f"{self._folder.name}/command.{ending}").read_text() for ending in ("out", "err"))

    def _wait(self, timeout: float) -> int | None:
        if self._status is None:
            self._status = CommandServer.ask({"wait": self.pid, "timeout": timeout})
        return self._status


@dataclass
class Workspace:
    """nnU-Net's three folders and the environment that points at them."""

    root: Path

    def __post_init__(self):
        self.raw, self.preprocessed, self.results = (self.root / name for name in ("raw", "preprocessed", "results"))
        for folder in (self.raw, self.preprocessed, self.results):
            folder.mkdir(exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.preprocessed),
            "nnUNet_results": str(self.results),
            "nnUNet_extTrainer": PLUGIN_FOLDER,
            "nnUNet_def_n_proc": "1",
            "nnUNet_n_proc_DA": "1",
        }

    def start(self, command: str, *arguments, spawn: bool = False, **environment: str | None) -> Command:
        """Begins a command, or a script if the command is Python.

        Args:
            spawn: processes that it starts by multiprocessing's "spawn" are fresh interpreters, see command_server.py.
            environment: None takes a variable out. Trainings load their patches themselves unless `nnUNet_n_proc_DA`
                says otherwise.
        """
        of_training = {"nnUNet_n_proc_DA": "0"} if command == "nnUNetv2_train" else {}
        variables = {**self.environment, **of_training, **environment}
        variables = {name: value for name, value in variables.items() if value is not None}
        script, *words = map(str, arguments if command == sys.executable else (BIN / command, *arguments))
        return Command(Path(script), words, variables, self.root, spawn)

    def run(self, command: str, *arguments, fails: bool = False, **options) -> str:
        """Output of a command, which ends well unless it fails; see `start`."""
        started = self.start(command, *arguments, **options)
        status, output = started.wait(), started.output()
        assert (status != 0) == fails, f"{command} ended with {status}:\n{output[-4000:]}"
        return output

    def plan(self, dataset: int, *arguments) -> None:
        self.run("nnUNetXModal_plan_and_preprocess", "-d", dataset, "-np", 1, "-npfp", 1, "--no_pbar", *arguments)

    def plans_file(self, dataset: str, name: str = "nnUNetPlans") -> Path:
        return self.preprocessed / dataset / f"{name}.json"

    def model(self, dataset: str, trainer: str, configuration: str, plans: str = "nnUNetPlans") -> Path:
        return self.results / dataset / f"{trainer}__{plans}__{configuration}"

    def log(self, dataset: str, trainer: str, configuration: str, fold: int | str = 0) -> str:
        """All training logs of a fold, oldest first."""
        logs = sorted((self.model(dataset, trainer, configuration) / f"fold_{fold}").glob("training_log_*.txt"))
        return "".join(log.read_text() for log in logs)


def shrink(plans_file: Path) -> None:
    """Four to eight channels and batches of two, so that a step takes milliseconds; a cascade that is worth none."""
    plans = json.loads(plans_file.read_text())
    configurations = plans["configurations"]
    for configuration in configurations.values():
        if "architecture" in configuration:
            arguments = configuration["architecture"]["arch_kwargs"]
            arguments["features_per_stage"] = [min(4 * 2**level, 8) for level in range(arguments["n_stages"])]
            configuration["batch_size"] = 2
    if "3d_fullres" in configurations:
        fullres = configurations["3d_fullres"]
        configurations["3d_lowres"] = {
            "inherits_from": "3d_fullres",
            "data_identifier": fullres["data_identifier"].replace("fullres", "lowres"),
            "spacing": [spacing * 1.5 for spacing in fullres["spacing"]],
            "next_stage": "3d_cascade_fullres",
        }
        configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    plans_file.write_text(json.dumps(plans))


def narrow(plans_file: Path) -> None:
    """Eight channels at every level of 3d_fullres, and batches of two."""
    plans = json.loads(plans_file.read_text())
    configuration = plans["configurations"]["3d_fullres"]
    arguments = configuration["architecture"]["arch_kwargs"]
    name = "widths" if "widths" in arguments else "features_per_stage"
    arguments[name] = [8] * len(arguments[name])
    configuration["batch_size"] = 2
    plans_file.write_text(json.dumps(plans))


def with_regions_and_ignore(folder: Path) -> None:
    """Turns the phantoms' lesion into regions organ part ⊃ lesion, with the last slice ignored."""
    for file in (folder / "labelsTr").iterdir():
        label = sitk.ReadImage(str(file))
        array = sitk.GetArrayFromImage(label)
        dilated = sitk.GetArrayFromImage(sitk.BinaryDilate(label, [2, 2, 1])) > 0
        array = dilated + array
        array[-1] = 3
        changed = sitk.GetImageFromArray(array.astype("uint8"))
        changed.CopyInformation(label)
        sitk.WriteImage(changed, str(file))
    file = folder / "dataset.json"
    dataset_json = json.loads(file.read_text())
    dataset_json["labels"] = {"background": 0, "surroundings": [1, 2], "lesion": [2], "ignore": 3}
    dataset_json["regions_class_order"] = [1, 2]
    file.write_text(json.dumps(dataset_json))


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """A raw dataset of six training cases and one new one."""
    folder = tmp_path_factory.mktemp("phantoms") / "Dataset901_Phantom"
    write_phantom_dataset(folder, n_train=6, n_test=1, seed=0)
    return folder


@pytest.fixture(scope="session")
def make_workspace(tmp_path_factory):
    """`name` → a workspace without any dataset."""
    return lambda name: Workspace(tmp_path_factory.mktemp(name))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory, make_workspace, phantoms) -> Workspace:
    """The phantoms, planned and preprocessed for 2d, 3d_fullres and a cascade.

    Files of tests that run side by side get a copy each of what the first one of them has planned.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return planned(make_workspace("workspace"), phantoms)
    ours, common = make_workspace("workspace"), tmp_path_factory.getbasetemp().parent / "planned"
    with FileLock(f"{common}.lock"):
        if not common.exists():
            first = planned(make_workspace("planned"), phantoms)
            shutil.copytree(first.root, f"{common}.part")
            Path(f"{common}.part").rename(common)
    shutil.copytree(common, ours.root, dirs_exist_ok=True)
    return ours


def planned(space: Workspace, phantoms: Path) -> Workspace:
    shutil.copytree(phantoms, space.raw / phantoms.name)
    space.plan(901, "-c", "2d", "3d_fullres")
    shrink(space.plans_file("Dataset901_Phantom"))
    space.run("nnUNetv2_preprocess", "-d", 901, "-c", "3d_lowres", "-np", 1)
    return space


@pytest.fixture(scope="session", name="shrink")
def _shrink():
    return shrink


@pytest.fixture(scope="session", name="narrow")
def _narrow():
    return narrow


@pytest.fixture(scope="session", name="with_regions_and_ignore")
def _with_regions_and_ignore():
    return with_regions_and_ignore
