"""Small models on the disk, and strangers who change them."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import trainers
from nnunet_xmodal.files import trust

DATASET = "Dataset999_Tiny"


class Command:
    """What a pickle runs when it is loaded: a file is touched."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch '{self.file}'",)


@dataclass
class Model:
    """A trained model of one fold; `touched` is there once code of a stranger has run."""

    folder: Path
    trainer: str
    touched: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "fold_0" / "checkpoint_final.pth"

    @property
    def flags(self) -> list[str]:
        """Of nnUNetXModal_predict."""
        flags = ["-d", DATASET, "-c", "2d", "-tr", self.trainer, "-f", "0", "-device", "cpu", "-npp", "0", "-nps", "0"]
        return [*flags, "--disable_progress_bar", "--disable_tta"]

    def change_plans(self, change) -> None:
        """Write what `change` has done to the plans."""
        file = self.folder / "plans.json"
        plans = json.loads(file.read_text())
        change(plans)
        file.write_text(json.dumps(plans))

    def change_architecture(self, **entries) -> None:
        """Change arguments of the network."""

        def change(plans):
            architecture = plans["configurations"]["2d"]["architecture"]
            architecture["arch_kwargs"].update(entries)

        self.change_plans(change)

    def poison_checkpoint(self) -> None:
        """Put a command into the checkpoint, beside what it holds."""
        content = torch.load(self.checkpoint, weights_only=False)
        torch.save({**content, "x": Command(self.touched)}, self.checkpoint)

    def run_command(self) -> dict:
        """Entries of an architecture that touch the file when the network is built."""
        return {"nonlin": "subprocess.check_output", "nonlin_kwargs": {"args": ["touch", str(self.touched)]}}


@pytest.fixture(autouse=True)
def _nobody_is_trusted(monkeypatch):
    monkeypatch.delenv(trust.VARIABLE, raising=False)


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path / "touched")


@pytest.fixture
def make_model(nnunet_folders, make_plans, make_dataset_json):
    """`(trainer)` → its untrained model in nnU-Net's results folder."""

    def make(name: str = "nnUNetTrainer") -> Model:
        plans = make_plans(2, streams=None if name == "nnUNetTrainer" else [[0], [1]])
        dataset_json = make_dataset_json()
        kind = nnUNetTrainer if name == "nnUNetTrainer" else getattr(trainers, name)
        manager = PlansManager(json.loads(json.dumps(plans)))
        network = kind.build_network_architecture(manager, manager.get_configuration("2d"), 2, 3, False)
        folder = nnunet_folders / "nnUNet_results" / DATASET / f"{name}__nnUNetPlans__2d"
        (folder / "fold_0").mkdir(parents=True)
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(dataset_json))
        model = Model(folder, name, nnunet_folders / "touched")
        content = {
            "network_weights": network.state_dict(),
            "trainer_name": name,
            "init_args": {"plans": plans, "configuration": "2d", "fold": 0, "device": torch.device("cpu")},
            "inference_allowed_mirroring_axes": (0, 1),
        }
        torch.save(content, model.checkpoint)
        return model

    return make
