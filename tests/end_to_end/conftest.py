"""Real commands on tiny data: a planned dataset, made once, and a way to run commands on it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import SimpleITK as sitk

from nnunet_xmodal.data.phantoms import write_phantom_dataset
from nnunet_xmodal.discovery import PLUGIN_FOLDER

BIN = Path(sys.executable).parent


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

    def run(self, command: str, *arguments, fails: bool = False, **environment: str | None) -> str:
        """Output of a command; None takes a variable out of its environment."""
        variables = {**self.environment, **environment}
        done = subprocess.run(
            [str(BIN / command), *map(str, arguments)],
            env={name: value for name, value in variables.items() if value is not None},
            capture_output=True,
            text=True,
            cwd=self.root,
            timeout=300,
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, f"{command} ended with {done.returncode}:\n{output[-4000:]}"
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
def workspace(tmp_path_factory, phantoms) -> Workspace:
    """The phantoms, planned and preprocessed for 2d, 3d_fullres and a cascade."""
    space = Workspace(tmp_path_factory.mktemp("workspace"))
    shutil.copytree(phantoms, space.raw / phantoms.name)
    space.plan(901, "-c", "2d", "3d_fullres")
    shrink(space.plans_file("Dataset901_Phantom"))
    space.run("nnUNetv2_preprocess", "-d", 901, "-c", "3d_lowres", "-np", 1)
    return space


@pytest.fixture(scope="session", name="shrink")
def _shrink():
    return shrink


@pytest.fixture(scope="session", name="with_regions_and_ignore")
def _with_regions_and_ignore():
    return with_regions_and_ignore
