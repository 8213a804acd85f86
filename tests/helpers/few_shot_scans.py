"""Scans whose organs are boxes of one intensity each, a backbone that tells them apart, and predictions of one scan."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch import nn

from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.predict import predict

DATASET, PLANS, TRAINER, SIZE = "Dataset999_Tiny", "nnUNetFewShotPlans", "nnUNetTrainerPANetR18", (64, 64)
TISSUE = 1  # every image has it around its organs, so that nothing is cropped
VALUES = 8


class IdealBackbone(nn.Module):
    """One feature per intensity, at full resolution; `tint` is a weight, which changes nothing."""

    def __init__(self, name, channels, weights=None):
        super().__init__()
        self.features = VALUES
        self.tint = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.tint * torch.stack([x[:, 0].round() == value for value in range(VALUES)], 1).float()


def scan(*organs, slices=6, size=SIZE):
    """`(slices, H, W)` with boxes of the given values one beside the other, through all slices."""
    volume = np.full((slices, *size), TISSUE, np.float32)
    for place, value in enumerate(organs):
        volume[:, 8:40, 4 + 20 * place : 20 + 20 * place] = value
    return volume


class InMemory:
    """As much of nnU-Net's dataset as is asked for; the label map follows from the image."""

    def __init__(self, *volumes, label_of=lambda volume: volume - TISSUE):
        self.volumes, self.label_of = volumes, label_of
        self.identifiers = [f"case{index}" for index in range(len(volumes))]

    def load_case(self, case):
        volume = self.volumes[self.identifiers.index(case)]
        return volume[None], np.maximum(self.label_of(volume), 0).astype(np.int16)[None], None, {}


def write_json_in(folder: Path, name: str, content: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(content, folder / name)


def write(folder: Path, name: str, volume: np.ndarray, spacing: float = 1.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((spacing, spacing, 3.0))
    sitk.WriteImage(image, str(folder / name))


def run(tmp_path, volume, *flags, folds=(0,), channels=1, spacing=1.0):
    """Predicts one scan and reads the result."""
    for channel in range(channels):
        write(tmp_path / "in", f"anna_{channel:04d}.nii.gz", volume, spacing)
    args = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-d", DATASET, "-p", PLANS, "-c", "2d", "-tr", TRAINER]
    args += ["-device", "cpu", "--disable_progress_bar", "-npp", 0, "-nps", 0, "-f", *folds, *flags]
    predict(request_of(parser().parse_args([str(word) for word in args])))
    return sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "anna.nii.gz")))


def ordered(volume):
    """A support whose first organ is another tissue in every third of its slices: 2, then 4, then 5."""
    label = np.zeros(volume.shape)
    for chunk, value in enumerate((2, 4, 5)):
        part = slice(chunk * len(volume) // 3, (chunk + 1) * len(volume) // 3)
        label[part] = volume[part] == value
    return label


def store_along(folder: Path, code: str) -> None:
    """Every image of a folder, and of those in it, along other axes; voxels stay where they are in the patient."""
    for file in sorted(folder.rglob("*.nii.gz")):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), code), str(file))
