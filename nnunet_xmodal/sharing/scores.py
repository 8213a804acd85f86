"""Scores of a model for its card: of a comparison's report, or of the final validation of its folds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.metrics import COUNTS, SEGMENTATION_METRICS, Metric
from nnunet_xmodal.files.csv_cells import as_written
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.labels import foreground, name_of_key
from nnunet_xmodal.files.tables import decimal, read_columns
from nnunet_xmodal.trainers.base.names import without_length

Score = dict[str, Any]
"""label, metric, n (cases), mean, sd, as they are stored: Dice from 0 to 1."""

TRAINED_ON = "the cases that the model was trained on (fold all)"
"""Where the scores of a fold `all` come from."""


def scores_of_report(report: Path, name: str, trainer: str) -> list[Score]:
    """Read the scores of one model from the summary.csv of `nnUNetXModal_compare`.

    Args:
        name: of the model there; "" for the trainer, whatever the length of its training.

    Raises:
        XModalError: for a folder without that table, a model that it does not have, and scores that are no numbers.
    """
    file = report / "summary.csv" if report.is_dir() else report
    if not file.is_file():
        raise XModalError(f"{file} is missing: give the folder that nnUNetXModal_compare has written.")
    rows = [
        row | {key: as_written(row[key]) for key in ("model", "label", "metric")}
        for _, row in read_columns(file, ("model", "label", "metric", "n", "mean", "sd"))
    ]
    models = list(dict.fromkeys(row["model"] for row in rows))
    of_trainer = [model for model in models if without_length(model) == without_length(trainer)]
    wanted = name or (of_trainer[0] if len(of_trainer) == 1 else trainer)
    if wanted not in models:
        raise XModalError(f"{file} has no model {wanted}: name one of {', '.join(models)} with --scored_as.")
    return [
        {
            "label": row["label"],
            "metric": row["metric"],
            "n": int(_number(row["n"]) or 0),
            "mean": _number(row["mean"]),
            "sd": _number(row["sd"]),
        }
        for row in rows
        if row["model"] == wanted
    ]


def scores_of_validation(model: Path, folds: Sequence[int | str], dataset_json: dict) -> list[Score]:
    """Return the scores of the folds' final validations, cases pooled; [] where no fold has been validated.

    Raises:
        XModalError: for a summary that cannot be read.
    """
    values: dict[tuple[str, str], list[float]] = {}
    labels = foreground(dataset_json)
    for fold in folds:
        file = model / f"fold_{fold}" / "validation" / "summary.json"
        if not file.is_file():
            continue
        summary = read_json(file)
        try:
            for case in summary["metric_per_case"]:
                for key, metrics in case["metrics"].items():
                    for metric, value in metrics.items():
                        if metric not in COUNTS and isinstance(value, int | float):
                            values.setdefault((name_of_key(str(key), labels), metric), []).append(float(value))
        except (KeyError, TypeError, AttributeError) as error:
            raise XModalError(f"{file} is no summary of a validation ({error!r}): validate anew with --val.") from error
    return [
        {"label": label, "metric": metric, **_summary(np.array(numbers))} for (label, metric), numbers in values.items()
    ]


def shown_score(score: Score) -> str:
    """Return mean ± standard deviation as a reader wants it: Dice in percent."""
    metric = SEGMENTATION_METRICS.get(score["metric"], Metric(score["metric"], None))
    numbers = [score["mean"], score["sd"]]
    shown = [
        f"{metric.scale * float(n):.4g}" if metric.unit != "%" else f"{100 * float(n):.1f}"
        for n in numbers
        if n is not None
    ]
    return " ± ".join(shown) + (f" {metric.unit}" if metric.unit and shown else "") if shown else "–"


def _summary(values: np.ndarray) -> dict[str, Any]:
    there = values[np.isfinite(values)]
    return {
        "n": len(there),
        "mean": float(there.mean()) if len(there) else None,
        "sd": float(there.std(ddof=1)) if len(there) > 1 else None,
    }


def _number(cell: str) -> float | None:
    try:
        number = decimal(cell or "nan")
    except ValueError as error:
        raise XModalError(f"{cell} is no number, where a score or a count belongs: compare anew.") from error
    return number if np.isfinite(number) else None
