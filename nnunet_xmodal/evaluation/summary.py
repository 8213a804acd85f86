"""Numbers per model, label and metric: what a table of a paper prints, and how many cases stand behind it."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from nnunet_xmodal.evaluation.metrics import Metric
from nnunet_xmodal.evaluation.statistics import mean_ranks

MEAN_OVER_LABELS = "mean over labels"
"""Stands in the column label: nnU-Net's `foreground_mean`, the mean over labels of each label's mean."""

COLUMNS = (
    "model", "label", "metric", "n", "n_undefined", "n_empty", "mean", "sd", "median", "q1", "q3",
    "n_folds", "mean_of_folds", "sd_of_folds", "mean_rank",
)  # fmt: skip
"""Of `summarise`."""


def summarise(cases: pd.DataFrame, metrics: Mapping[str, Metric]) -> pd.DataFrame:
    """Return one row per model × label × metric.

    - n, n_undefined: cases whose value is defined, and NaN.
    - n_empty: cases with an empty reference or prediction, about which the empty-label rule decides; 0 for metrics that
      it leaves alone (`Metric.kind` is None).
    - mean, sd, median, q1, q3: over the defined cases of all folds; sd is the sample's (n−1).
    - n_folds, mean_of_folds, sd_of_folds: each fold's mean first, then mean and sample standard deviation over folds,
      which is NaN for one fold.
    - mean_rank: see `statistics.mean_ranks`.

    With two labels or more there are rows of a label `MEAN_OVER_LABELS`: per fold the mean over labels of the labels'
    means. They hold no quantiles, no rank and no sd over cases, because no case has such a value.

    Args:
        cases: one row per model × fold × case × label, with the columns `model`, `fold`, `case`, `subject`, `label`,
            `empty` and a column per metric, NaN where undefined.
    """
    with np.errstate(invalid="ignore"):  # the deviation of an infinite PSNR is NaN
        table = pd.DataFrame([row for model in pd.unique(cases["model"]) for row in _rows(model, cases, metrics)])
    ranks = mean_ranks(cases, metrics).drop(columns="n")
    table = table.merge(ranks, how="left", on=["model", "label", "metric"])
    return table.reindex(columns=list(COLUMNS))


def _rows(model: str, cases: pd.DataFrame, metrics: Mapping[str, Metric]) -> Iterator[dict]:
    names = list(metrics)
    labels = list(pd.unique(cases["label"]))
    means, fold_means, counts = {}, {}, {}
    for label in labels:
        rows = cases[(cases["model"] == model) & (cases["label"] == label)]
        values = rows[names]
        quartiles = values.quantile([0.25, 0.5, 0.75])
        means[label] = values.mean()
        fold_means[label] = values.groupby(rows["fold"], sort=False).mean()
        n_empty = int((rows["empty"] != "").sum())
        counts[label] = pd.DataFrame(
            {
                "n": values.count(),
                "n_undefined": values.isna().sum(),
                "n_empty": pd.Series({name: n_empty if metric.kind else 0 for name, metric in metrics.items()}),
            }
        )
        per_case = {
            "mean": means[label],
            "sd": values.std(ddof=1),
            "median": quartiles.loc[0.5],
            "q1": quartiles.loc[0.25],
            "q3": quartiles.loc[0.75],
        }
        yield from _long(model, label, counts[label], per_case, fold_means[label])
    if len(labels) > 1:
        mean = {"mean": pd.DataFrame(means).mean(axis=1)}
        over_labels = pd.concat(fold_means).groupby(level=1, sort=False).mean()
        yield from _long(model, MEAN_OVER_LABELS, sum(counts.values()), mean, over_labels)


def _long(
    model: str, label: str, counts: pd.DataFrame, per_case: Mapping[str, pd.Series], fold_means: pd.DataFrame
) -> Iterator[dict]:
    folds = {"n_folds": fold_means.count(), "mean_of_folds": fold_means.mean(), "sd_of_folds": fold_means.std(ddof=1)}
    columns = {**counts, **per_case, **folds}
    for metric in fold_means:
        yield {"model": model, "label": label, "metric": metric} | {name: c[metric] for name, c in columns.items()}
