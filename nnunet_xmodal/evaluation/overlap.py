"""Dice, sensitivity, precision, VOE and RVD from nnU-Net's `validation/summary.json`, without reading an image.

With P the voxels of the prediction, R those of the reference, per case and label or region:

- Dice = 2|P∩R| / (|P|+|R|)
- sensitivity = |P∩R| / |R|
- precision = |P∩R| / |P|
- VOE, volumetric overlap error, = 1 − |P∩R| / |P∪R|
- RVD, relative volume difference, = (|P|−|R|) / |R|, signed

These are the standard definitions. Three of those printed by Zhang et al. (Cross-Modal Self-Attention Distillation,
2020) are misprints: Eq. 12 is the Dice loss instead of the Dice coefficient, Eq. 14 divides by the prediction instead
of the reference, and Eq. 15 is the accuracy.

A quotient 0/0 is NaN and left out of means: sensitivity and RVD where the reference is empty, precision where the
prediction is, Dice and VOE where both are. The table says how many values that were.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

METRICS = ("Dice", "sensitivity", "precision", "VOE", "RVD")

Cases = list[dict[str, dict[str, float]]]
"""Per case: label or region → metric → value."""


def overlap(tp: int, fp: int, fn: int) -> dict[str, float]:
    """The five metrics from numbers of voxels, as fractions; NaN where the denominator is 0."""
    predicted, reference = tp + fp, tp + fn
    return {
        "Dice": _ratio(2 * tp, predicted + reference),
        "sensitivity": _ratio(tp, reference),
        "precision": _ratio(tp, predicted),
        "VOE": 1 - _ratio(tp, tp + fp + fn),
        "RVD": _ratio(predicted - reference, reference),
    }


def voxel_metrics(tp: int, fp: int, fn: int, tn: int) -> dict[str, float]:
    """`overlap`, and what nnU-Net's table and the comparison of trainers show beside it.

    - IoU = |P∩R| / |P∪R|
    - specificity = share of the voxels outside of R that are outside of P
    - abs_RVD = |RVD|

    As fractions; NaN where the denominator is 0. Dice and IoU are nnU-Net's to the last bit.
    """
    values = overlap(tp, fp, fn)
    return {
        **values,
        "IoU": _ratio(tp, tp + fp + fn),
        "specificity": _ratio(tn, tn + fp),
        "abs_RVD": abs(values["RVD"]),
    }


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")


def cases_of(summary: Mapping) -> Cases:
    """The metrics of every case and label of a `summary.json`, as `json.load` reads it."""
    return [
        {label: overlap(m["TP"], m["FP"], m["FN"]) for label, m in case["metrics"].items()}
        for case in summary["metric_per_case"]
    ]


def read_cases(summary_file: str | Path) -> Cases:
    """`cases_of` a file."""
    with open(summary_file, encoding="utf-8") as file:
        return cases_of(json.load(file))


def fold_means(cases: Cases) -> dict[str, float]:
    """Mean over the cases of each label, then over labels, as in nnU-Net's `foreground_mean`; |RVD| for RVD.

    Volumes that are too large and too small would cancel in a signed mean.
    """
    return {
        metric: _mean([_mean([_shown(metric, case[label][metric]) for case in cases]) for label in cases[0]])
        for metric in METRICS
    }


def _shown(metric: str, value: float) -> float:
    return abs(value) if metric == "RVD" else value


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def mean_and_sd(folds: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Per metric the mean over folds and their sample standard deviation (n−1), NaN for fewer than two folds."""
    result = {}
    for metric in METRICS:
        defined = [fold[metric] for fold in folds if not np.isnan(fold[metric])]
        sd = float(np.std(defined, ddof=1)) if len(defined) > 1 else float("nan")
        result[metric] = (_mean(defined), sd)
    return result


def undefined(cases: Cases) -> dict[str, int]:
    """Per metric the number of values that are 0/0."""
    labels = [label for case in cases for label in case.values()]
    return {metric: sum(bool(np.isnan(label[metric])) for label in labels) for metric in METRICS}


def overlap_table(folds_of: Mapping[str, Sequence[Cases]]) -> str:
    """A markdown table in percent, also readable as plain text, with a note on what is averaged and left out.

    Args:
        folds_of: trainer → the cases of each of its folds.
    """
    header = ["trainer", "folds", *("|RVD|" if metric == "RVD" else metric for metric in METRICS)]
    rows = [
        [
            trainer,
            str(len(folds)),
            *(_percent(*value) for value in mean_and_sd([fold_means(cases) for cases in folds]).values()),
        ]
        for trainer, folds in folds_of.items()
    ]
    # a | ends a cell of a markdown table
    header = [cell.replace("|", r"\|") for cell in header]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [
        _line(header, widths),
        "|" + "|".join(("-" * (width + 1) + (":" if column else "-")) for column, width in enumerate(widths)) + "|",
        *(_line(row, widths) for row in rows),
    ]
    notes = ["In percent; per fold the mean over its validation cases, then mean ± standard deviation over folds."]
    for trainer, folds in folds_of.items():
        missing = undefined([case for cases in folds for case in cases])
        if any(missing.values()):
            counts = ", ".join(f"{count} of {metric}" for metric, count in missing.items() if count)
            notes.append(f"{trainer}: left out as 0/0, for want of a reference or of a prediction: {counts}.")
    return "\n".join([*lines, "", *notes])


def _percent(mean: float, sd: float) -> str:
    if np.isnan(mean):
        return "–"
    return f"{100 * mean:.1f}" if np.isnan(sd) else f"{100 * mean:.1f} ± {100 * sd:.1f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))
    return "| " + " | ".join([cells[0].ljust(widths[0]), *numbers]) + " |"
