"""The table that everything else is made of: one row per model, fold, case and label, one column per metric.

A case is read once for all models. What was computed before, for the same files and settings, is kept in a folder and
read from there, so that a further model costs only its own cases and an interrupted run goes on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_xmodal.comparison.case_cache import CaseCache, keep, kept, recall
from nnunet_xmodal.comparison.cross_validation import ModelResults, Reported
from nnunet_xmodal.datasets.cases import label_values
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.case_metrics import MetricSettings, case_metrics
from nnunet_xmodal.evaluation.metrics import SEGMENTATION_METRICS, Direction, Metric
from nnunet_xmodal.evaluation.summary import MEAN_OVER_LABELS
from nnunet_xmodal.files.images import read_image, same_geometry, shown_geometry
from nnunet_xmodal.files.labels import foreground, ignore_label
from nnunet_xmodal.files.parallel import run_all
from nnunet_xmodal.files.whole_labels import rounded_labels

KEYS = ("model", "fold", "case", "subject", "label")

_VERSION = 1  # of the definitions: cached values of another version are computed anew
_ROUNDING = 1e-6  # of a Dice in a summary.json


@dataclass(frozen=True)
class _Task:
    """One case: its reference and the predictions of several models with the files that keep their metrics."""

    case: str
    reference: Path
    predictions: tuple[tuple[Path, Path], ...]
    dataset_json: dict
    settings: MetricSettings


def case_table(
    models: Sequence[ModelResults],
    cases: Sequence[str],
    references: Path | None,
    settings: MetricSettings,
    cache: CaseCache,
    processes: int,
    subjects: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, dict[str, Metric]]:
    """Compute every metric of every model, case and label.

    Args:
        references: folder of the label maps; not needed for results that are no segmentations.
        processes: cases that are computed at once.
        subjects: case → subject; without it every case is its own.

    Returns:
        The table, and what its columns of metrics mean: those of segmentations, then all others of the summaries.

    Raises:
        XModalError: for a file that is missing or cannot be read in full, another grid than the reference's, a label
            that dataset.json does not name, a Dice that is not the one of the summary beside it, and names or
            directions of metrics that contradict each other.
    """
    files = {
        (model.name, case): cache.file(
            [prediction, reference_file(references, case, model)],
            [_VERSION, model.dataset_json["labels"], asdict(settings)],
        )
        for model in models
        for case in cases
        if (prediction := model.cases[case].prediction) is not None
    }
    metrics = _metrics(models, cases)
    tasks = list(_tasks(models, cases, references, settings, files))
    run_all(_compute_case, tasks, processes, f"Metrics of {len(tasks)} cases")
    rows = []
    for model in models:
        for case in cases:
            result = model.cases[case]
            computed = {}
            if result.prediction is not None:
                computed = recall(files[model.name, case], foreground(model.dataset_json))
                _check_summary(result.prediction, result.reported, computed)
            for label in dict.fromkeys((*computed, *result.reported)):
                values = {**result.reported.get(label, {}), **computed.get(label, {})}
                keys = (model.name, result.fold, case, (subjects or {}).get(case, case), label)
                rows.append(dict(zip(KEYS, keys)) | {name: values.get(name, np.nan) for name in metrics})
    return pd.DataFrame(rows, columns=[*KEYS, *metrics]), metrics


def _tasks(
    models: Sequence[ModelResults],
    cases: Sequence[str],
    references: Path | None,
    settings: MetricSettings,
    files: Mapping[tuple[str, str], Path],
) -> Iterable[_Task]:
    """Yield the cases of which something is not in the cache."""
    for case in cases:
        todo = [
            model
            for model in models
            if (model.name, case) in files and kept(files[model.name, case], foreground(model.dataset_json)) is None
        ]
        if todo:
            predictions = tuple(
                (prediction, files[model.name, case])
                for model in todo
                if (prediction := model.cases[case].prediction) is not None
            )
            yield _Task(case, reference_file(references, case, todo[0]), predictions, todo[0].dataset_json, settings)


def reference_file(folder: Path | None, case: str, model: ModelResults) -> Path:
    """Return the file of a case's reference.

    Raises:
        XModalError: without a folder, or without that file in it.
    """
    if folder is None:
        raise XModalError(f"{model.folder} holds segmentations, but there is no folder of references: give --gt.")
    file = folder / f"{case}{model.dataset_json['file_ending']}"
    if not file.is_file():
        raise XModalError(f"{file} is missing: it is the reference of {model.cases[case].prediction}.")
    return file


def _compute_case(task: _Task) -> str | None:
    """Write the metrics of a case into the cache; return a fault, so that other cases are looked at as well."""
    labels, ignore = foreground(task.dataset_json), ignore_label(task.dataset_json)
    try:
        reference, geometry = read_label_map(task.reference, task.dataset_json)
        for file, target in task.predictions:
            prediction, its_geometry = read_label_map(file, task.dataset_json)
            _check_grid(file, its_geometry, task.reference, geometry)
            values = case_metrics(prediction, reference, geometry["spacing"], labels, ignore, task.settings)
            keep(values, target)
    except XModalError as error:
        return str(error)
    return None


def read_label_map(file: Path, dataset_json: dict) -> tuple[np.ndarray, dict]:
    """Read a label map `(z, y, x)`, or of fewer dimensions, in the smallest type that fits, and its geometry.

    Raises:
        XModalError: for a file that cannot be read in full, holds something else than one label map, has no spacing to
            measure with, or a label that dataset.json does not name.
    """
    array, geometry = read_image(file, dataset_json, is_label=True)
    if len(array) != 1 or array.ndim > 4:
        size = shown_geometry(array.shape[1:] if len(array) == 1 else array.shape)
        raise XModalError(f"{file} holds {size} numbers: a label map has one channel, and two or three dimensions.")
    spacing = np.asarray(geometry["spacing"], dtype=float)
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise XModalError(f"{file} has the spacing {shown_geometry(spacing)}: correct its header.")
    array, known = array[0], label_values(dataset_json)
    present = np.unique(array[array != 0])
    if np.issubdtype(array.dtype, np.floating):
        present = rounded_labels(present)
        array = np.rint(array)
    unknown = sorted(set(present.tolist()) - known)
    if unknown:
        raise XModalError(f"{file} holds the label {unknown[0]:.9g}, which dataset.json does not name: correct either.")
    smallest = np.uint8 if min(known) >= 0 and max(known) < 256 else np.int32
    return array.astype(smallest, copy=False), geometry


def _check_grid(file: Path, geometry: Mapping, reference_file: Path, reference: Mapping) -> None:
    for name, value in geometry.items():
        theirs = reference.get(name)
        if theirs is not None and not same_geometry(value, theirs):
            raise XModalError(
                f"{file} has the {name} {shown_geometry(value)} but {reference_file} has {shown_geometry(theirs)}: "
                "resample it onto the reference's grid."
            )


def _check_summary(prediction: Path, reported: Reported, computed: Reported) -> None:
    """Check the Dice of a summary: another one was written for other files."""
    for label, values in computed.items():
        theirs, ours = reported.get(label, {}).get("Dice", np.nan), values["Dice"]
        if abs(theirs - ours) > _ROUNDING:
            raise XModalError(
                f"{prediction} has Dice {ours:.4f} for {label}, but the summary.json beside it says {theirs:.4f}: "
                "predictions or references were changed, validate again with nnUNetv2_train … --val."
            )


def _metrics(models: Sequence[ModelResults], cases: Sequence[str]) -> dict[str, Metric]:
    """Return those of segmentations where there are any, then all others of the summaries."""
    metrics = dict(SEGMENTATION_METRICS) if any(model.is_segmentation for model in models) else {}
    directions = _directions(models)
    for model in models:
        reported = [values for case in cases for values in model.cases[case].reported.items()]
        for name in dict.fromkeys(name for _, values in reported for name in values):
            if name in (*KEYS, "empty"):
                raise XModalError(
                    f'{model.folder} has a metric "{name}", which is the name of a column of cases.csv: rename it.'
                )
            if name not in metrics:
                known = SEGMENTATION_METRICS.get(name, Metric(name, None))
                better = directions.get(name, known.better)
                metrics[name] = Metric(name, better, known.kind, known.unit, known.definition)
        if MEAN_OVER_LABELS in (*foreground(model.dataset_json), *(label for label, _ in reported)):
            raise XModalError(f'{model.folder} has a label "{MEAN_OVER_LABELS}", which the report needs: rename it.')
    return metrics


def _directions(models: Sequence[ModelResults]) -> dict[str, Direction]:
    directions: dict[str, tuple[Direction, ModelResults]] = {}
    for model in models:
        for name, better in model.directions.items():
            theirs, other = directions.setdefault(name, (better, model))
            if better != theirs:
                raise XModalError(
                    f"{name} is better {theirs} in {other.folder} but {better} in {model.folder}: correct "
                    '"directions" in either summary.json.'
                )
    return {name: better for name, (better, _) in directions.items()}
