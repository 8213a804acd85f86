"""From the results of several models to a folder with tables and a report."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from nnunet_xmodal.comparison.calibration_table import (
    CalibrationRequest,
    calibrate,
    check_calibratable,
    store_temperatures,
    temperature_notes,
)
from nnunet_xmodal.comparison.case_cache import CaseCache
from nnunet_xmodal.comparison.case_table import case_table
from nnunet_xmodal.comparison.common_cases import common_cases
from nnunet_xmodal.comparison.cross_validation import ModelResults, images
from nnunet_xmodal.comparison.curves import curves
from nnunet_xmodal.comparison.detection_table import check_detectable, detection_table
from nnunet_xmodal.comparison.forecast_table import forecast_table
from nnunet_xmodal.comparison.overlays import overlays
from nnunet_xmodal.comparison.pages import check_viewable, with_pages
from nnunet_xmodal.comparison.presence import presence_of_cases, presence_table
from nnunet_xmodal.comparison.report.contents import Overlay, ReportContents
from nnunet_xmodal.comparison.report.html import write_report
from nnunet_xmodal.comparison.report.own_files import check_no_others
from nnunet_xmodal.comparison.request import ComparisonRequest
from nnunet_xmodal.comparison.sources import (
    TrainedModel,
    dataset_name,
    prediction_folders,
    references_folder,
    subjects,
    trained_models,
)
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.case_metrics import MetricSettings
from nnunet_xmodal.evaluation.empty_labels import with_rule
from nnunet_xmodal.evaluation.statistics import compare_all
from nnunet_xmodal.evaluation.summary import summarise
from nnunet_xmodal.files.claim import claimed
from nnunet_xmodal.files.temporary import temporary_folder

_EMPTY = {
    "nan": "nan: what is undefined is left out, as nnU-Net does",
    "brats": "brats: 1 and 0 mm where both are empty, 0 and 373.13 mm where one is",
}


def compare(request: ComparisonRequest) -> ReportContents:
    """Read results, compute what is not computed yet, and write the report.

    Raises:
        XModalError: before anything but cached metrics is written, for results that are missing, damaged or unlike,
            and for files that the system does not let us read or write.
    """
    try:
        _check_writable(request.output)
        check_no_others(request.output)
        with claimed(request.output):
            return _compare(request)
    except OSError as error:
        file = error.filename2 or error.filename or request.output
        raise XModalError(
            f"{file} cannot be read or written ({error.strerror or error}): see to its permissions and the space that "
            "is left, or give another -o."
        ) from error


def _compare(request: ComparisonRequest) -> ReportContents:
    trained = trained_models(request)
    models = _models(request, trained)
    if request.viewer:
        check_viewable(models)
    dataset = dataset_name(request)
    references = references_folder(request, dataset)
    expected = () if trained or references is None else images(references, models[0].dataset_json["file_ending"])
    cases, notes = common_cases(models, request.allow_missing, expected)
    _adopt_folds(models, cases)
    if request.detection:
        check_detectable(models, cases, request.detection)
    if request.calibration:
        check_calibratable(models, cases, request.temperature)
    groups = subjects(request, dataset, cases)
    patterns = presence_of_cases(dataset, models, cases) if request.by == "presence" else None
    cache = CaseCache(request.output / "cache")
    metric_settings = MetricSettings(request.nsd_tolerance_mm, request.lesion_iou)
    table, metrics = case_table(models, cases, references, metric_settings, cache, request.processes, groups)
    table = with_rule(table, request.empty, metrics)
    calibration = None
    if request.calibration:
        asked = CalibrationRequest(models, cases, references, cache, request.processes, request.temperature)
        calibration = calibrate(asked)
        table = table.merge(calibration.cases, how="left", on=["model", "case", "label"])
        metrics = metrics | dict(calibration.metrics)
        notes = notes + temperature_notes(calibration, models)
    detection = None
    if request.detection:
        detection = detection_table(models, cases, references, request.detection, cache, request.processes)
    contents = ReportContents(
        title=f"{dataset or 'Predictions'}: {_count(models, 'model')} on {_count(cases, 'case')}",
        facts=_facts(request, dataset, models, cases, groups),
        notes=notes + _notes(models, table, request.empty),
        models=[model.name for model in models],
        metrics=metrics,
        cases=table,
        summary=summarise(table, metrics),
        statistics=compare_all(table, metrics),
        detection=detection,
        reliability=None if calibration is None else calibration.bins,
        forecast=forecast_table(models, table) if "Dice" in metrics else None,
        cost=_cost(trained) if trained else None,
        curves={model.results.name: curves(model.results) for model in trained},
        overlays=_overlays(request, dataset, models, table, references) if _are_segmentations(models, cases) else (),
    )
    if patterns is not None:
        contents.presence = presence_table(contents, patterns)
    write_report(contents, request.output)
    if calibration is not None:
        store_temperatures(calibration, models)
    return contents


def _models(request: ComparisonRequest, trained: Sequence[TrainedModel]) -> list[ModelResults]:
    """Return the results of trained models, then those of folders, with names of their own."""
    models = [model.results for model in trained]
    models += prediction_folders(request, models[0].dataset_json if models else None)
    _check_names(models)
    return models


def _overlays(
    request: ComparisonRequest,
    dataset: str | None,
    models: Sequence[ModelResults],
    table: pd.DataFrame,
    references: Path | None,
) -> Sequence[Overlay]:
    drawn = overlays(models, table, references, _images_of(dataset), request.overlays)
    if not request.viewer:
        return drawn
    return with_pages(drawn, models, references, _images_of(dataset), request.output)


def _are_segmentations(models: Sequence[ModelResults], cases: Sequence[str]) -> bool:
    return all(model.cases[case].prediction is not None for model in models for case in cases)


def _images_of(dataset: str | None) -> Path | None:
    return None if dataset is None else Path(os.environ["nnUNet_raw"]) / dataset / "imagesTr"


def _cost(models: Sequence[TrainedModel]) -> pd.DataFrame:
    """Return what trained models cost; folders of predictions need neither torch nor a trainer."""
    from nnunet_xmodal.comparison.cost import cost_table  # imports torch

    return cost_table(models)


def _check_writable(output: Path) -> None:
    existing = output
    try:
        while not existing.exists():
            existing = existing.parent
        if not existing.is_dir():
            raise NotADirectoryError("it is a file")
        with temporary_folder(existing):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise XModalError(f"-o {output}: {existing} cannot be written to ({reason}), give another folder.") from error


def _check_names(models: Sequence[ModelResults]) -> None:
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise XModalError(f"two models are called {name}: give each once, or folders another NAME=FOLDER.")
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise XModalError(f"the folder {name!a} cannot be printed: give it another name with NAME=FOLDER.")


def _adopt_folds(models: Sequence[ModelResults], cases: Sequence[str]) -> None:
    """Give predictions from elsewhere the folds of a cross-validation beside them, for means over the same cases."""
    trained = next((model for model in models if model.is_cross_validation), None)
    if trained is None:
        return
    for model in models:
        if not model.is_cross_validation:
            model.adopt_folds({case: trained.cases[case].fold for case in cases})


def _facts(
    request: ComparisonRequest,
    dataset: str | None,
    models: Sequence[ModelResults],
    cases: Sequence[str],
    groups: Mapping[str, str] | None,
) -> dict[str, str]:
    folds = sorted({model.cases[case].fold for model in models for case in cases})
    facts = {"dataset": dataset or "–"}
    if request.trainers:
        facts |= {
            "trainers": ", ".join(request.trainers),
            "configuration": ", ".join(request.configurations),
            "plans": ", ".join(request.plans),
        }
    facts |= {
        "folds": ", ".join(folds) if any(folds) else "none",
        "cases": str(len(cases)),
        "unit of the statistics": "case" if groups is None else f"subject ({len({groups[case] for case in cases})})",
        "empty labels": _EMPTY[request.empty],
        "tolerance of NSD": f"{request.nsd_tolerance_mm:g} mm",
        "lesions match from": f"IoU {request.lesion_iou:g}",
    }
    return facts


def _count(things: Sequence, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _notes(models: Sequence[ModelResults], table: pd.DataFrame, rule: str) -> list[str]:
    counts = table.groupby("model", sort=False)["empty"].value_counts().unstack(fill_value=0)
    notes = [
        f"{model.name}: fold all was trained on the cases that it was validated on; its scores say little about others."
        for model in models
        if model.is_cross_validation and "all" in model.folds
    ]
    for model, row in counts.iterrows():
        states = [
            f"{row[state]} {words}"
            for state, words in (
                ("both", "with neither reference nor prediction"),
                ("reference", "without a reference"),
                ("prediction", "without a prediction"),
            )
            if row.get(state, 0)
        ]
        if states:
            notes.append(f"{model}: of {int(row.sum())} pairs of case and label {', '.join(states)} (rule: {rule}).")
    return notes
