"""Cross-validation results as nnU-Net leaves them, made without a training."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.evaluation.evaluate_predictions import compute_metrics, save_summary_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.json_export import recursive_fix_for_json_export
from PIL import Image

from nnunet_xmodal.comparison.report import plots
from nnunet_xmodal.evaluation import statistics

DATASET = "Dataset900_Spheres"
SPACING = (3.0, 1.0, 0.5)  # z, y, x
LABELS = {"background": 0, "whole": [1, 2], "core": [2]}
FOLDS = {0: ("a_1", "a_2"), 1: ("b_1", "b_2"), 2: ("c_1", "c_2")}


def write_label_map(array: np.ndarray, file: Path, spacing=SPACING) -> None:
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file))


def balls(radius: float, core: float, shape=(10, 24, 28)) -> np.ndarray:
    """Label 1 around label 2; radii in mm."""
    grid = np.indices(shape) - np.array(shape).reshape(-1, 1, 1, 1) / 2
    distance = np.sqrt(sum((axis * side) ** 2 for axis, side in zip(grid, SPACING)))
    return (distance < radius).astype(np.uint8) + (distance < core)


class Results:
    """nnU-Net's folders of a dataset with references, and models added to them."""

    write_label_map = staticmethod(write_label_map)

    def __init__(self, root: Path):
        self.root = root
        self.dataset_json = {
            "channel_names": {"0": "T2", "1": "ADC"},
            "labels": LABELS,
            "regions_class_order": [1, 2],
            "file_ending": ".nii.gz",
            "numTraining": 6,
        }
        self.references = root / "nnUNet_preprocessed" / DATASET / "gt_segmentations"
        self.images = root / "nnUNet_raw" / DATASET / "imagesTr"
        for index, case in enumerate(case for cases in FOLDS.values() for case in cases):
            reference = balls(5 + index / 3, 2 + index / 4)
            write_label_map(reference, self.references / f"{case}.nii.gz")
            write_label_map(50 * reference, self.images / f"{case}_0000.nii.gz")
        self._write(self.dataset_json, root / "nnUNet_raw" / DATASET / "dataset.json")

    def model_folder(self, trainer: str) -> Path:
        return self.root / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__2d"

    def validation(self, trainer: str, fold: int) -> Path:
        return self.model_folder(trainer) / f"fold_{fold}" / "validation"

    def add(self, trainer: str, shift: int, folds=FOLDS, dataset_json: dict | None = None) -> Path:
        """A model whose predictions are the references, moved by so many voxels."""
        folder = self.model_folder(trainer)
        self._write(dataset_json or self.dataset_json, folder / "dataset.json")
        for fold, cases in folds.items():
            for case in cases:
                reference = sitk.GetArrayFromImage(sitk.ReadImage(str(self.references / f"{case}.nii.gz")))
                write_label_map(np.roll(reference, shift, axis=2), self.validation(trainer, fold) / f"{case}.nii.gz")
            self.summarise(trainer, fold)
            self.log(folder / f"fold_{fold}")
        return folder

    def summarise(self, trainer: str, fold: int) -> None:
        """nnU-Net's own summary of what lies in the folder."""
        validation, regions = self.validation(trainer, fold), [(1, 2), (2,)]
        cases = [
            compute_metrics(str(self.references / file.name), str(file), SimpleITKIO(), regions)
            for file in sorted(validation.glob("*.nii.gz"))
        ]
        for case in cases:
            recursive_fix_for_json_export(case)
        dice = {region: float(np.nanmean([case["metrics"][region]["Dice"] for case in cases])) for region in regions}
        summary = {
            "metric_per_case": cases,
            "mean": {region: {"Dice": value} for region, value in dice.items()},
            "foreground_mean": {"Dice": float(np.mean(list(dice.values())))},
        }
        save_summary_json(summary, str(validation / "summary.json"))

    def log(self, fold: Path) -> None:
        lines = []
        for epoch in range(3):
            stamp = f"2026-01-01 00:0{epoch}"
            lines += [
                f"{stamp}:00.000000: Epoch {epoch} ",
                f"{stamp}:10.000000: train_loss {1 / (epoch + 1)} ",
                f"{stamp}:10.000000: val_loss {2 / (epoch + 1)} ",
                f"{stamp}:10.000000: Pseudo dice [np.float32(0.5), np.float32(nan)] ",
                f"{stamp}:20.000000: Epoch time: 2{epoch}.0 s ",
            ]
        lines += ["2026-01-01 00:05:00.000000: predicting a_1 ", "2026-01-01 00:05:08.000000: Validation complete "]
        (fold / "training_log_2026_1_1_00_00_00.txt").write_text("\n".join(lines))

    @staticmethod
    def _write(content: dict, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))


@pytest.fixture
def results(nnunet_folders) -> Results:
    return Results(nnunet_folders)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Limits of intervals are what tests/evaluation/test_statistics.py is about; here they take most of the time."""
    monkeypatch.setattr(statistics, "RESAMPLES", 499)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures of the report are laid out, but one white pixel stands for each: rendering takes most of the time."""
    pixel = BytesIO()
    Image.new("L", (1, 1), 255).save(pixel, "PNG")
    monkeypatch.setattr(plots, "as_png", lambda figure: pixel.getvalue())
