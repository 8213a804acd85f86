"""Lesion detection of several models side by side, from the probabilities that `--npz` leaves."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pandas as pd

from nnunet_xmodal.comparison.case_cache import CaseCache, keep, kept, recall
from nnunet_xmodal.comparison.case_table import read_label_map, reference_file
from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.comparison.probabilities import check_prediction_of, probabilities_file, probabilities_on
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.detection import (
    DetectedCase,
    detect_case,
    pool_cases,
    probability_channel,
)
from nnunet_xmodal.files.labels import foreground, ignore_label
from nnunet_xmodal.files.parallel import run_all

_VERSION = 1


@dataclass(frozen=True)
class _Task:
    probabilities: Path
    prediction: Path
    reference: Path
    labels: tuple[str, ...]
    dataset_json: dict
    target: Path


def detection_table(
    models: Sequence[ModelResults],
    cases: Sequence[str],
    references: Path | None,
    labels: Sequence[str],
    cache: CaseCache,
    processes: int,
) -> pd.DataFrame:
    """Return a row per model and label: AP, AUROC, points of the FROC curve, counts; AP and AUROC also per fold.

    Args:
        labels: names of dataset.json.

    Raises:
        XModalError: see `check_detectable`; for probabilities that cannot be read, and without picai_eval.
    """
    check_detectable(models, cases, labels)
    tasks = {(model.name, case): _task(model, case, references, labels, cache) for model in models for case in cases}
    todo = [task for task in tasks.values() if kept(task.target, labels) is None]
    run_all(_detect, todo, processes, f"Lesions of {len(todo)} predictions")
    rows = []
    for model in models:
        found = {case: recall(tasks[model.name, case].target, labels) for case in cases}
        for label in labels:
            detected = {case: _detected(found[case][label]) for case in cases}
            fold_of = {case: model.cases[case].fold for case in cases}  # others than these may share no case
            folds = [
                pool_cases(detected[case] for case in cases if fold_of[case] == fold)
                for fold in dict.fromkeys(fold_of.values())
            ]
            rows.append(
                {
                    "model": model.name,
                    "label": label,
                    **pool_cases(detected.values()).numbers(),
                    **_mean_and_sd("AP", [fold.AP for fold in folds]),
                    **_mean_and_sd("AUROC", [fold.AUROC for fold in folds]),
                }
            )
    return pd.DataFrame(rows)


def check_detectable(models: Sequence[ModelResults], cases: Sequence[str], labels: Sequence[str]) -> None:
    """Check that lesions of these labels can be looked for in these results.

    Raises:
        XModalError: for an unknown label, for results that are no segmentations, and for missing probabilities.
    """
    known = foreground(models[0].dataset_json)
    for label in labels:
        if label not in known:
            raise XModalError(f"--detection {label} is no label of dataset.json: take from {', '.join(known)}.")
    for model in models:
        for case in cases:
            probabilities_file(model, case, "--detection")


def _task(model: ModelResults, case: str, references: Path | None, labels: Sequence[str], cache: CaseCache) -> _Task:
    file, prediction = probabilities_file(model, case, "--detection")
    reference = reference_file(references, case, model)
    sources = [file, prediction, reference]
    target = cache.file(sources, ["detection", _VERSION, model.dataset_json["labels"], list(labels)])
    return _Task(file, prediction, reference, tuple(labels), model.dataset_json, target)


def _detect(task: _Task) -> str | None:
    try:
        reference, geometry = read_label_map(task.reference, task.dataset_json)
        reference = reference.reshape(-1, *reference.shape[-2:])  # files of one slice may lack z
        channels = [probability_channel(task.dataset_json, label) for label in task.labels]
        probabilities = probabilities_on(
            task.probabilities, task.reference, reference.shape, geometry, task.dataset_json
        )
        predicted, _ = read_label_map(task.prediction, task.dataset_json)
        check_prediction_of(task.probabilities, probabilities, task.prediction, predicted, task.dataset_json)
        ignore = ignore_label(task.dataset_json)
        found = {}
        for label, channel in zip(task.labels, channels):
            probability = probabilities[channel]
            if ignore is not None:
                probability = np.where(reference == ignore, 0, probability)
            lesion = np.isin(reference, foreground(task.dataset_json)[label])
            found[label] = asdict(detect_case(probability, lesion))
        keep(found, task.target)
    except XModalError as error:
        return str(error)
    return None


def _detected(content: dict) -> DetectedCase:
    return DetectedCase(tuple(map(tuple, content["lesions"])), content["confidence"], content["positive"])


def _mean_and_sd(name: str, values: Iterable[float]) -> dict[str, float]:
    defined = [value for value in values if not np.isnan(value)]
    return {
        f"{name}_mean_of_folds": mean(defined) if defined else float("nan"),
        f"{name}_sd_of_folds": stdev(defined) if len(defined) > 1 else float("nan"),
    }
