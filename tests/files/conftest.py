"""Small models on the disk, and strangers who change them; NIfTI files as other programs leave them."""

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
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


AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
SHAPE = (6, 5, 4)


def moved(x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    """The usual affine somewhere else."""
    affine = AFFINE.copy()
    affine[:3, 3] = x, y, z
    return affine


def with_forms(voxels: np.ndarray, sform: np.ndarray | None, qform: np.ndarray | None) -> nibabel.Nifti1Image:
    """An image whose header says its place once, twice or, without both, not at all."""
    image = nibabel.Nifti1Image(voxels, None)
    image.header.set_zooms((1, 1, 2)[: voxels.ndim])
    image.set_sform(sform, 0 if sform is None else 2)
    image.set_qform(qform, 0 if qform is None else 1)
    return image


def packed(file: Path, offset: int, form: str, *values: float) -> None:
    """Writes numbers into a header, past what nibabel would let through."""
    content = bytearray(file.read_bytes())
    struct.pack_into(form, content, offset, *values)
    file.write_bytes(content)


class Nifti:
    """The functions above, for tests, which cannot import this file."""

    affine, shape = AFFINE, SHAPE
    moved = staticmethod(moved)
    with_forms = staticmethod(with_forms)
    packed = staticmethod(packed)

    @staticmethod
    def voxels(seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)

    @staticmethod
    def label() -> np.ndarray:
        label = np.zeros(SHAPE, np.uint8)
        label[2:4, 1:4, 1:3] = 1
        return label

    @staticmethod
    def colours(numbers: str) -> np.ndarray:
        return np.zeros(SHAPE, [(name, "u1") for name in numbers])


@pytest.fixture(scope="session")
def nifti() -> type[Nifti]:
    return Nifti


@pytest.fixture
def raw(tmp_path, nifti) -> Callable[..., tuple[Path, dict]]:
    """Writes two cases of two channels; file endings other than .nii.gz choose another reader of nnU-Net."""

    def write(ending: str = ".nii.gz", **more) -> tuple[Path, dict]:
        folder = tmp_path / "Dataset001_Raw"
        for place in ("imagesTr", "labelsTr"):
            (folder / place).mkdir(parents=True)
        for case in ("a", "b"):
            for channel in range(2):
                image = nibabel.Nifti1Image(nifti.voxels(channel), AFFINE)
                nibabel.save(image, folder / "imagesTr" / f"{case}_000{channel}{ending}")
            nibabel.save(nibabel.Nifti1Image(nifti.label(), AFFINE), folder / "labelsTr" / f"{case}{ending}")
        description = {
            "channel_names": {"0": "T2W", "1": "ADC"},
            "labels": {"background": 0, "lesion": 1},
            "numTraining": 2,
            "file_ending": ending,
            **more,
        }
        (folder / "dataset.json").write_text(json.dumps(description))
        return folder, description

    return write
