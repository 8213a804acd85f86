"""Lesion detection of several models side by side, from the probabilities that `--npz` leaves."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pandas as pd

from nnunet_xmodal.comparison.case_cache import CaseCache
from nnunet_xmodal.comparison.case_table import reference_file
from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.comparison.parallel import run_all
from nnunet_xmodal.data.atomic_files import write_json
from nnunet_xmodal.data.image_files import read_image
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.detection import (
    DetectedCase,
    detect_case,
    pool_cases,
    probability_channel,
    read_probabilities,
)
from nnunet_xmodal.evaluation.labels import foreground, ignore_label

_VERSION = 1


@dataclass(frozen=True)
class _Task:
    probabilities: Path
    reference: Path
    labels: tuple[str, ...]
    dataset_json: dict
    target: Path


def detection_table(
    models: Sequence[ModelResults],
    cases: Sequence[str],
    references: Path,
    labels: Sequence[str],
    cache: CaseCache,
    processes: int,
) -> pd.DataFrame:
    """One row per model and label: AP, AUROC, points of the FROC curve, counts; AP and AUROC also per fold.

    Args:
        labels: names of dataset.json.

    Raises:
        XModalError: for an unknown label, missing probabilities, or without picai_eval.
    """
    known = foreground(models[0].dataset_json)
    for label in labels:
        if label not in known:
            raise XModalError(f"--detection {label} is no label of dataset.json: take from {', '.join(known)}.")
    tasks = {(model.name, case): _task(model, case, references, labels, cache) for model in models for case in cases}
    todo = [task for task in tasks.values() if not task.target.is_file()]
    run_all(_detect, todo, processes, f"Lesions of {len(todo)} predictions")
    rows = []
    for model in models:
        found = {case: json.loads(tasks[model.name, case].target.read_text(encoding="utf-8")) for case in cases}
        for label in labels:
            detected = {case: _detected(found[case][label]) for case in cases}
            folds = [
                pool_cases(detected[case] for case in cases if model.cases[case].fold == fold) for fold in model.folds
            ]
            rows.append(
                {"model": model.name, "label": label}
                | pool_cases(detected.values()).numbers()
                | _mean_and_sd("AP", [fold.AP for fold in folds])
                | _mean_and_sd("AUROC", [fold.AUROC for fold in folds])
            )
    return pd.DataFrame(rows)


def _task(model: ModelResults, case: str, references: Path, labels: Sequence[str], cache: CaseCache) -> _Task:
    prediction = model.cases[case].prediction
    if prediction is None:
        raise XModalError(f"--detection: {model.folder} holds no segmentations.")
    file = prediction.with_name(f"{case}.npz")
    if not file.is_file():
        raise XModalError(f"{file} is missing: --detection needs probabilities, validate again with --val --npz.")
    reference = reference_file(references, case, model)
    target = cache.file([file, reference], ["detection", _VERSION, model.dataset_json["labels"], list(labels)])
    return _Task(file, reference, tuple(labels), model.dataset_json, target)


def _detect(task: _Task) -> str | None:
    try:
        reference = read_image(task.reference, task.dataset_json, is_label=True)[0][0]
        probabilities = read_probabilities(task.probabilities)
        ignore = ignore_label(task.dataset_json)
        found = {}
        for label in task.labels:
            probability = probabilities[probability_channel(task.dataset_json, label)]
            if ignore is not None:
                probability = np.where(reference == ignore, 0, probability)
            lesion = np.isin(reference, foreground(task.dataset_json)[label])
            found[label] = asdict(detect_case(probability, lesion))
        task.target.parent.mkdir(parents=True, exist_ok=True)
        write_json(found, task.target)
    except XModalError as error:
        return f"{task.probabilities}: {error}"
    return None


def _detected(content: dict) -> DetectedCase:
    return DetectedCase(tuple(map(tuple, content["lesions"])), content["confidence"], content["positive"])


def _mean_and_sd(name: str, values: Iterable[float]) -> dict[str, float]:
    defined = [value for value in values if not np.isnan(value)]
    return {
        f"{name}_mean_of_folds": mean(defined) if defined else float("nan"),
        f"{name}_sd_of_folds": stdev(defined) if len(defined) > 1 else float("nan"),
    }
