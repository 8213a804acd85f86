"""The tables that are read first: per label the models' main metrics over folds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_xmodal.comparison.report.contents import ReportContents
from nnunet_xmodal.comparison.report.numbers import arrow, mean_and_sd, shown
from nnunet_xmodal.evaluation.metrics import Metric
from nnunet_xmodal.evaluation.summary import MEAN_OVER_LABELS

EXPLAINED = (
    "Mean ± standard deviation over folds of each fold's mean over its cases; the best is bold. Empty: cases without "
    "reference or without prediction, which the rule for empty labels decides about."
)


@dataclass
class Score:
    """A mean of folds, as text too, and whether it is the best of its column."""

    value: float
    text: str
    best: bool


@dataclass
class ScoreRow:
    """One model; cases includes the undefined ones, and counts every label of a case where labels are averaged."""

    model: str
    scores: list[Score]
    cases: int
    empty: int
    folds: int


@dataclass
class ScoreTable:
    """One label.

    Attributes:
        header: of the columns of `ScoreRow`, a metric each for its scores.
        left_out: a sentence on what the means leave out, or "".
    """

    label: str
    header: list[str]
    rows: list[ScoreRow]
    left_out: str


def score_tables(contents: ReportContents) -> Iterator[ScoreTable]:
    """Yield one table per label, the mean over labels first."""
    metrics = contents.main_metrics
    header = ["model", *(f"{metric.shown}{arrow(metric)}" for metric in metrics), "cases", "empty", "folds"]
    labels = sorted(pd.unique(contents.summary["label"]), key=lambda label: label != MEAN_OVER_LABELS)
    for label in labels:
        of_label = contents.summary[contents.summary["label"] == label].set_index(["metric", "model"])
        best = {metric.name: best_models(of_label.loc[metric.name], metric) for metric in metrics}
        rows = []
        for model in contents.models:
            found = [of_label.loc[(metric.name, model)] for metric in metrics if (metric.name, model) in of_label.index]
            if len(found) < len(metrics):
                continue  # this model does not know the label
            scores = [
                Score(
                    float(row["mean_of_folds"]),
                    mean_and_sd(row["mean_of_folds"], row["sd_of_folds"], metric),
                    model in best[metric.name],
                )
                for metric, row in zip(metrics, found)
            ]
            cases = int(found[0]["n"] + found[0]["n_undefined"])
            folds, empty = (max(int(row[name]) for row in found) for name in ("n_folds", "n_empty"))
            rows.append(ScoreRow(model, scores, cases, empty, folds))
        yield ScoreTable(label, header, rows, _left_out(of_label, metrics, contents.models))


def best_models(rows: pd.DataFrame, metric: Metric) -> set[str]:
    """Return the models (index of the rows) whose mean of folds is the best or is shown as the same number.

    None where nothing is compared: of one model, or without a better direction.
    """
    means = rows["mean_of_folds"].dropna()
    if metric.better is None or len(means) < 2:
        return set()
    best = shown(means.max() if metric.better == "higher" else means.min(), metric)
    return {model for model, mean in means.items() if shown(mean, metric) == best}


def _left_out(of_label: pd.DataFrame, metrics: Sequence[Metric], models: Sequence[str]) -> str:
    undefined = of_label["n_undefined"]
    parts = []
    for model in models:
        counts = [(int(undefined.get((metric.name, model), 0)), metric.name) for metric in metrics]
        if any(count for count, _ in counts):
            parts.append(f"{model} " + ", ".join(f"{count} of {name}" for count, name in counts if count))
    return f"Undefined and left out: {'; '.join(parts)}." if parts else ""
