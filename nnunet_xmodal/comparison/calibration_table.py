"""Calibration of several models side by side, from the probabilities that `--npz` leaves; temperatures fitted to them.

A temperature is fitted on validation cases: the stored one on all of them. What is reported of a case after scaling
uses the temperature of the other folds, so that no case is judged by what it was fitted on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_xmodal.comparison.case_cache import CaseCache, recall
from nnunet_xmodal.comparison.case_calibration import CURVE, CalibrationTask, is_kept, measure, read_bins
from nnunet_xmodal.comparison.case_table import reference_file
from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.comparison.probabilities import probabilities_file
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.calibration import (
    BINS,
    TEMPERATURES,
    Reliability,
    best_temperature,
)
from nnunet_xmodal.evaluation.metrics import Metric
from nnunet_xmodal.files.labels import foreground
from nnunet_xmodal.files.model_temperature import noted_folds, temperature_file, write_temperature
from nnunet_xmodal.files.parallel import run_all

_VERSION = 1
_AROUND = "over the voxels within 10 mm of the box around the reference; undefined without one"
_SCALED = "the same after temperature scaling, fitted on the other folds"

CALIBRATION_METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("ECE", "lower", None, "%", f"expected calibration error of the label's probability, 15 bins, {_AROUND}"),
        Metric("Brier", "lower", None, "", f"mean of (probability − label)², {_AROUND}"),
        Metric("ECE_T", "lower", None, "%", f"ECE, {_SCALED}"),
        Metric("Brier_T", "lower", None, "", f"Brier, {_SCALED}"),
    )
}

BIN_COLUMNS = (
    *("model", "label", "temperature", "from", "to"),
    *("voxels", "mean_probability", "share_with_label"),
)
"""Of the table of bins; `temperature` is "" or "T"."""


@dataclass(frozen=True)
class CalibrationRequest:
    """What is measured.

    Attributes:
        models, cases, references: as of `case_table`.
        cache: of what is computed of a case.
        processes: cases at once.
        temperature: whether temperatures are fitted as well.
    """

    models: Sequence[ModelResults]
    cases: Sequence[str]
    references: Path | None
    cache: CaseCache
    processes: int
    temperature: bool = False


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        cases: model, case, label, then a column per metric of `metrics`.
        metrics: those of `CALIBRATION_METRICS` that were measured.
        bins: `BIN_COLUMNS`; pooled cases, no row where no reference has a label.
        temperatures: model → the one fitted on all of its cases.
    """

    cases: pd.DataFrame
    metrics: Mapping[str, Metric]
    bins: pd.DataFrame
    temperatures: Mapping[str, float]


def check_calibratable(models: Sequence[ModelResults], cases: Sequence[str], temperature: bool = False) -> None:
    """Check that every case has probabilities, and that temperatures have a model to go with.

    Raises:
        XModalError: for results that are no segmentations, and missing probabilities; with temperatures for folders
            from elsewhere, for cases that the model was trained on, and for a model with a temperature of more folds.
    """
    for model in models:
        if temperature and not model.is_cross_validation:
            raise XModalError(
                f"--temperature is fitted on validation cases of trained models, which {model.folder} is not: leave "
                "--folders out, or take --calibration alone."
            )
        if temperature:
            _check_fitted_on(model, cases)
        for case in cases:
            probabilities_file(model, case, "--calibration")


def calibrate(request: CalibrationRequest) -> Calibration:
    """Measure every model, case and label; fit temperatures where they are asked for.

    Raises:
        XModalError: see `check_calibratable`; for probabilities that cannot be read.
    """
    check_calibratable(request.models, request.cases, request.temperature)
    plain = {(model.name, case): 1.0 for model in request.models for case in request.cases}
    found = {"": _measured(request, plain)}
    temperatures = {}
    if request.temperature:
        scaled: dict[tuple[str, str], float] = {}
        for model in request.models:
            temperatures[model.name], of_cases = _temperatures(request, model)
            scaled |= {(model.name, case): temperature for case, temperature in of_cases.items()}
        found["T"] = _measured(request, scaled)
    rows = [
        {"model": model.name, "case": case, "label": label} | _values(found, model.name, case, label)
        for model in request.models
        for case in request.cases
        for label in foreground(model.dataset_json)
    ]
    names = list(CALIBRATION_METRICS)[: 2 * len(found)]
    metrics = {name: CALIBRATION_METRICS[name] for name in names}
    table = pd.DataFrame(rows, columns=["model", "case", "label", *names])
    bins = pd.DataFrame(list(_bins(request, found)), columns=list(BIN_COLUMNS))
    return Calibration(table, metrics, bins, temperatures)


def temperature_notes(calibration: Calibration, models: Sequence[ModelResults]) -> list[str]:
    """Return a sentence on each model's temperature, for the report."""
    return [
        f"{model.name}: temperature {temperature:.3f}{_at_a_limit(temperature)}, stored as "
        f"{temperature_file(model.folder)}."
        for model in models
        if (temperature := calibration.temperatures.get(model.name)) is not None
    ]


def _at_a_limit(temperature: float) -> str:
    if TEMPERATURES[0] < temperature < TEMPERATURES[-1]:
        return ""
    return " (at the end of what was tried: these probabilities may be of little use)"


def store_temperatures(calibration: Calibration, models: Sequence[ModelResults]) -> None:
    """Write each model's temperature into its folder: last, once everything that was asked for is there."""
    cases = calibration.cases["case"].unique()
    for model in models:
        if (temperature := calibration.temperatures.get(model.name)) is not None:
            folds = sorted({str(model.cases[case].fold) for case in cases})
            noted = {"folds": folds, "cases": len(cases), "fitted_by": "nnUNetXModal_compare --temperature"}
            write_temperature(temperature, noted, model.folder)


def _check_fitted_on(model: ModelResults, cases: Sequence[str]) -> None:
    folds = {str(model.cases[case].fold) for case in cases}
    if "all" in folds:
        raise XModalError(
            f"--temperature would be fitted on cases that {model.name} was trained on (fold all), where every model is "
            "too sure: compare the folds of a cross-validation."
        )
    before = {str(fold) for fold in noted_folds(model.folder)}
    if folds < before:
        raise XModalError(
            f"{temperature_file(model.folder)} was fitted on the folds {' '.join(sorted(before))}, and these are "
            f"{' '.join(sorted(folds))}: give all of them with -f, or delete the file."
        )


_Found = Mapping[tuple[str, str], Mapping[str, Reliability | None]]


def _measured(request: CalibrationRequest, temperatures: Mapping[tuple[str, str], float]) -> _Found:
    """Return (model, case) → label → bins, None where the reference has none of it; for cases with a temperature."""
    tasks = {
        (model.name, case): _task(request, model, case, temperatures[model.name, case])
        for model in request.models
        for case in request.cases
        if (model.name, case) in temperatures
    }
    labels = {model.name: foreground(model.dataset_json) for model in request.models}
    todo = [task for (model, _), task in tasks.items() if not is_kept(task, labels[model])]
    run_all(measure, todo, request.processes, f"Calibration of {len(todo)} predictions")
    return {
        (model, case): {label: read_bins(content) for label, content in recall(task.target, labels[model]).items()}
        for (model, case), task in tasks.items()
    }


def _task(request: CalibrationRequest, model: ModelResults, case: str, temperature: float) -> CalibrationTask:
    file, prediction = probabilities_file(model, case, "--calibration")
    reference = reference_file(request.references, case, model)
    sources = [file, prediction, reference]
    key = ["calibration", _VERSION, BINS, model.dataset_json["labels"]]
    target = request.cache.file(sources, [*key, round(temperature, 6)])
    curve = request.cache.file(sources, [*key, CURVE, len(TEMPERATURES)]) if request.temperature else None
    return CalibrationTask(file, prediction, reference, model.dataset_json, temperature, target, curve)


def _temperatures(request: CalibrationRequest, model: ModelResults) -> tuple[float, dict[str, float]]:
    """Return the temperature of all cases, and case → that of the other folds, without cases of a single fold."""
    curves = {}
    for case in request.cases:
        target = _task(request, model, case, 1.0).curve
        assert target is not None
        values = recall(target, [CURVE])[CURVE]["values"]
        if values:
            curves[case] = np.array(values)
    if not curves:
        raise XModalError(f"{model.name}: no reference holds a label, so that no temperature can be fitted.")
    of_cases: dict[str, float] = {}
    for fold in {model.cases[case].fold for case in request.cases}:
        others = [curve for case, curve in curves.items() if model.cases[case].fold != fold]
        if others:
            temperature = best_temperature(others)
            of_cases |= {case: temperature for case in request.cases if model.cases[case].fold == fold}
    return best_temperature(list(curves.values())), of_cases


def _values(found: Mapping[str, _Found], model: str, case: str, label: str) -> dict[str, float]:
    values = {}
    for suffix, measured in found.items():
        bins = measured.get((model, case), {}).get(label)
        ending = f"_{suffix}" if suffix else ""
        values[f"ECE{ending}"] = float("nan") if bins is None else bins.ece
        values[f"Brier{ending}"] = float("nan") if bins is None else bins.brier
    return values


def _bins(request: CalibrationRequest, found: Mapping[str, _Found]) -> Iterable[dict]:
    edges = np.linspace(0, 1, BINS + 1)
    for model in request.models:
        for label in foreground(model.dataset_json):
            for suffix, measured in found.items():
                of_cases = [measured.get((model.name, case), {}).get(label) for case in request.cases]
                known = [bins for bins in of_cases if bins is not None]
                if not known:
                    continue
                pooled = reduce(add, known)
                for number in np.flatnonzero(pooled.voxels):
                    voxels = int(pooled.voxels[number])
                    yield {
                        "model": model.name,
                        "label": label,
                        "temperature": suffix,
                        "from": edges[number],
                        "to": edges[number + 1],
                        "voxels": voxels,
                        "mean_probability": pooled.probability[number] / voxels,
                        "share_with_label": pooled.positive[number] / voxels,
                    }
