"""From the results of several models to a folder with tables and a report."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from nnunet_xmodal.comparison.case_cache import CaseCache
from nnunet_xmodal.comparison.case_table import case_table
from nnunet_xmodal.comparison.comparable import common_cases
from nnunet_xmodal.comparison.cross_validation import ModelResults, images
from nnunet_xmodal.comparison.curves import curves
from nnunet_xmodal.comparison.detection_table import check_detectable, detection_table
from nnunet_xmodal.comparison.overlays import overlays
from nnunet_xmodal.comparison.report.contents import ReportContents
from nnunet_xmodal.comparison.report.html import write_report
from nnunet_xmodal.comparison.settings import ComparisonSettings
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


def compare(settings: ComparisonSettings) -> ReportContents:
    """Reads results, computes what is not computed yet, and writes the report.

    Raises:
        XModalError: before anything but cached metrics is written, for results that are missing, damaged or unlike,
            and for files that the system does not let us read or write.
    """
    try:
        _check_writable(settings.output)
        with claimed(settings.output):
            return _compare(settings)
    except OSError as error:
        file = error.filename2 or error.filename or settings.output
        raise XModalError(
            f"{file} cannot be read or written ({error.strerror or error}): see to its permissions and the space that "
            "is left, or give another -o."
        ) from error


def _compare(settings: ComparisonSettings) -> ReportContents:
    metric_settings = MetricSettings(settings.nsd_tolerance_mm, settings.lesion_iou)
    output = settings.output
    trained = trained_models(settings)
    models = [model.results for model in trained]
    models += prediction_folders(settings, models[0].dataset_json if models else None)
    _check_names(models)
    dataset = dataset_name(settings)
    references = references_folder(settings, dataset)
    expected = () if trained or references is None else images(references, models[0].dataset_json["file_ending"])
    cases, notes = common_cases(models, settings.allow_missing, expected)
    _adopt_folds(models, cases)
    if settings.detection:
        check_detectable(models, cases, settings.detection)
    groups = subjects(settings, dataset, cases)
    cache = CaseCache(output / "cache")

    table, metrics = case_table(models, cases, references, metric_settings, cache, settings.processes, groups)
    table = with_rule(table, settings.empty, metrics)
    segmentations = all(model.cases[case].prediction is not None for model in models for case in cases)
    detection = None
    if settings.detection:
        detection = detection_table(models, cases, references, settings.detection, cache, settings.processes)
    pictures = None if dataset is None else Path(os.environ["nnUNet_raw"]) / dataset / "imagesTr"
    contents = ReportContents(
        title=f"{dataset or 'Predictions'}: {_count(models, 'model')} on {_count(cases, 'case')}",
        facts=_facts(settings, dataset, models, cases, groups),
        notes=notes + _notes(models, table, settings.empty),
        models=[model.name for model in models],
        metrics=metrics,
        cases=table,
        summary=summarise(table, metrics),
        statistics=compare_all(table, metrics),
        detection=detection,
        cost=_cost(trained) if trained else None,
        curves={model.results.name: curves(model.results) for model in trained},
        overlays=overlays(models, table, references, pictures, settings.overlays) if segmentations else (),
    )
    write_report(contents, output)
    return contents


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
    """Predictions from elsewhere are averaged over the same groups of cases as cross-validations beside them."""
    trained = next((model for model in models if model.is_cross_validation), None)
    if trained is None:
        return
    for model in models:
        if not model.is_cross_validation:
            model.adopt_folds({case: trained.cases[case].fold for case in cases})


def _facts(
    settings: ComparisonSettings,
    dataset: str | None,
    models: Sequence[ModelResults],
    cases: Sequence[str],
    groups: Mapping[str, str] | None,
) -> dict[str, str]:
    folds = sorted({model.cases[case].fold for model in models for case in cases})
    facts = {"dataset": dataset or "–"}
    if settings.trainers:
        facts |= {
            "trainers": ", ".join(settings.trainers),
            "configuration": ", ".join(settings.configurations),
            "plans": ", ".join(settings.plans),
        }
    facts |= {
        "folds": ", ".join(folds) if any(folds) else "none",
        "cases": str(len(cases)),
        "unit of the statistics": "case" if groups is None else f"subject ({len({groups[case] for case in cases})})",
        "empty labels": _EMPTY[settings.empty],
        "tolerance of NSD": f"{settings.nsd_tolerance_mm:g} mm",
        "lesions match from": f"IoU {settings.lesion_iou:g}",
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
        told = [
            f"{row[state]} {words}"
            for state, words in (
                ("both", "with neither reference nor prediction"),
                ("reference", "without a reference"),
                ("prediction", "without a prediction"),
            )
            if row.get(state, 0)
        ]
        if told:
            notes.append(f"{model}: of {int(row.sum())} pairs of case and label {', '.join(told)} (rule: {rule}).")
    return notes
