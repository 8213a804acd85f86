"""Summaries against numbers worked out by hand and against nnU-Net's way of averaging."""

import math

import numpy as np
import pandas as pd
import pytest

from nnunet_xmodal.evaluation.metrics import Metric
from nnunet_xmodal.evaluation.summary import COLUMNS, MEAN_OVER_LABELS, summarise

METRICS = {
    "Dice": Metric("Dice", "higher", "overlap", "%"),
    "volume_ml": Metric("volume_ml", None, None, "ml"),
}
NAN = math.nan


def _cases(model, values, label="1", folds=("0", "0", "1", "1"), empty=("", "", "", "")):
    names = [f"case_{i}" for i in range(len(values))]
    return pd.DataFrame(
        {"model": model, "fold": folds, "case": names, "subject": names, "label": label, "empty": empty}
        | {"Dice": values, "volume_ml": np.arange(len(values), dtype=float)}
    )


def _row(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    (row,) = table.to_dict("records")
    return row


def test_by_hand():
    table = summarise(_cases("A", [0.2, 0.4, 0.9, NAN], empty=("", "prediction", "", "both")), METRICS)
    assert tuple(table.columns) == COLUMNS
    row = _row(table, metric="Dice")
    assert (row["n"], row["n_undefined"], row["n_empty"], row["n_folds"]) == (3, 1, 2, 2)
    assert row["mean"] == pytest.approx(0.5)
    assert row["sd"] == pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1))
    assert (row["q1"], row["median"], row["q3"]) == pytest.approx((0.3, 0.4, 0.65))
    assert row["mean_of_folds"] == pytest.approx(0.6)  # of 0.3 and 0.9
    assert row["sd_of_folds"] == pytest.approx(np.std([0.3, 0.9], ddof=1))
    assert row["mean_rank"] == 1


def test_empty_labels_do_not_touch_a_volume():
    row = _row(summarise(_cases("A", [1.0] * 4, empty=("", "both", "", "")), METRICS), metric="volume_ml")
    assert row["n_empty"] == 0 and math.isnan(row["mean_rank"])


def test_one_fold_has_no_deviation_over_folds():
    row = _row(summarise(_cases("A", [0.1, 0.2], folds="all", empty=""), METRICS), metric="Dice")
    assert row["mean_of_folds"] == pytest.approx(0.15) and math.isnan(row["sd_of_folds"])


def test_the_mean_over_labels_is_nnunets_foreground_mean_of_every_fold():
    per_label = {"1": [0.2, NAN, 0.6, 0.8], "2": [0.5, 0.7, NAN, NAN]}
    table = summarise(pd.concat([_cases("A", v, label) for label, v in per_label.items()]), METRICS)
    row = _row(table, metric="Dice", label=MEAN_OVER_LABELS)
    folds = [np.nanmean([0.2, np.nanmean([0.5, 0.7])]), np.nanmean([np.nanmean([0.6, 0.8]), NAN])]
    assert row["mean_of_folds"] == pytest.approx(np.mean(folds))
    assert row["sd_of_folds"] == pytest.approx(np.std(folds, ddof=1))
    assert row["mean"] == pytest.approx(np.mean([np.nanmean(v) for v in per_label.values()]))
    assert (row["n"], row["n_undefined"]) == (5, 3)
    assert all(math.isnan(row[name]) for name in ("sd", "median", "q1", "q3", "mean_rank"))


def test_one_label_has_no_mean_over_labels():
    assert set(summarise(_cases("A", [0.5] * 4), METRICS)["label"]) == {"1"}


def test_models_keep_their_order_and_get_ranks():
    table = summarise(pd.concat([_cases("B", [0.9] * 4), _cases("A", [0.8] * 4)]), METRICS)
    ranks = table[table["metric"] == "Dice"]
    assert list(ranks["model"]) == ["B", "A"] and list(ranks["mean_rank"]) == [1, 2]


def test_a_label_that_one_model_does_not_know():
    cases = pd.concat([_cases("A", [0.9] * 4), _cases("A", [0.7] * 4, "2"), _cases("B", [0.8] * 4)])
    row = _row(summarise(cases, METRICS), model="B", label="2", metric="Dice")
    assert row["n"] == row["n_folds"] == 0 and math.isnan(row["mean_of_folds"])
    assert _row(summarise(cases, METRICS), model="B", label=MEAN_OVER_LABELS, metric="Dice")["mean"] == 0.8
