"""One harness for every reconstruction: the same cases, the same numbers, network or not."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.datasets.preprocessed_cases import CasesOnDisk, PreprocessedCases
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.datasets.target_channel import TargetChannel
from nnunet_xmodal.evaluation.figures.planes import ShownVolume, draw_planes, window
from nnunet_xmodal.evaluation.reconstruction import DIRECTIONS, reconstruction_quality
from nnunet_xmodal.evaluation.validation_summary import CaseResult, gather_results, mean_metrics, write_summary
from nnunet_xmodal.files.labels import ignore_label, inside, organ_key
from nnunet_xmodal.prediction.image_predictor import float_ending, write_image
from nnunet_xmodal.prediction.native_geometry import images_in_native_geometry


class PreprocessedCase(NamedTuple):
    """A case as a method of reconstruction gets it.

    Attributes:
        name: of the case.
        inputs: float32 `(C, *spatial)`, as the files have them.
        target: float32 `(*spatial)`.
        mask: bool `(*spatial)`, the dataset's foreground without an ignore label.
        properties: what nnU-Net's reader and preprocessor have noted.
    """

    name: str
    inputs: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    properties: dict


Method = Callable[[PreprocessedCase], np.ndarray]
"""Case → reconstruction `(*spatial)` in the target's unit; its target is not to be looked at."""


def read_case(dataset: PreprocessedCases, name: str, target: TargetChannel, ignore: int | None) -> PreprocessedCase:
    """Read a case of nnU-Net's preprocessed dataset; `ignore` is the value of its ignore label, None without one."""
    data, segmentation, _, properties = dataset.load_case(name)
    data = np.asarray(data[:], dtype=np.float32)
    mask = inside(np.asarray(segmentation[0]), ignore)
    return PreprocessedCase(name, data[: target.index], data[target.index], mask, properties)


def validate_reconstruction(
    method: Method,
    dataset: CasesOnDisk,
    cases: Sequence[str],
    plans: PlansManager,
    configuration: ConfigurationManager,
    dataset_json: dict,
    fold_folder: str | Path,
    log: Callable[[str], None] = print,
    rank: int = 0,
    ranks: int = 1,
) -> dict[str, float]:
    """Measure a method on every case; write `validation/summary.json`, and an image and a figure of each.

    Metrics are those of `reconstruction_quality` on the network's grid, inside the mask. Reconstructions on the case's
    own grid, 0 outside the mask, are in `validation/images/`, beside PNGs of reference, reconstruction and error.

    Args:
        dataset: of nnU-Net, with these cases.
        fold_folder: `…/fold_X`.
        rank, ranks: of DistributedDataParallel; every process takes its share and rank 0 writes the summary.

    Returns:
        Metric → mean over all cases.
    """
    folder, key = Path(fold_folder) / "validation", organ_key(dataset_json)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    target = TargetChannel.of_plans(plans.plans, "the validation")
    name, ending = channel_names_of(dataset_json)[target.index], dataset_json["file_ending"]
    ending = float_ending(ending)
    results: list[CaseResult] = []
    for case_name in cases[rank::ranks]:
        log(f"predicting {case_name}")
        case = read_case(dataset, case_name, target, ignore_label(dataset_json))
        made = np.where(case.mask, method(case), 0).astype(np.float32)
        native = images_in_native_geometry(made[None], case.properties, plans, configuration)
        file = folder / "images" / f"{case_name}{ending}"
        write_image(native[0], case.properties, file)
        _draw(name, case, made, configuration.spacing, folder / "images" / f"{case_name}.png")
        results.append(
            {
                "reference_file": os.path.join(dataset.source_folder, case_name),
                "prediction_file": str(file),
                "metrics": {key: reconstruction_quality(made, case.target, case.mask)},
            }
        )
    results = gather_results(results, ranks)
    if rank == 0:
        notes = {"directions": DIRECTIONS, "where": "inside the mask, on the network's grid, in the files' unit"}
        write_summary(folder, results, key, notes)
    return mean_metrics(results, key)


def _draw(name: str, case: PreprocessedCase, made: np.ndarray, spacing: Sequence[float], file: Path) -> None:
    black, white = window(case.target, case.mask)
    error = np.where(case.mask, np.abs(made - case.target), 0)
    shown = [
        ShownVolume(f"{name}, reference", np.where(case.mask, case.target, black), black, white),
        ShownVolume("reconstruction", np.where(case.mask, made, black), black, white),
        ShownVolume("|error|", error, 0, (white - black) / 2),
    ]
    draw_planes(shown, case.mask, spacing, file)
