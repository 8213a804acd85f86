"""Overlap metrics against numbers worked out by hand and against a loop over voxels."""

import json
import math

import numpy as np
import pytest

from nnunet_xmodal.evaluation.overlap import (
    METRICS,
    cases_of,
    fold_means,
    mean_and_sd,
    overlap,
    overlap_table,
    read_cases,
    undefined,
    voxel_metrics,
)


def _summary(*cases):
    """A summary.json with one dictionary label → (TP, FP, FN) per case."""
    return {
        "metric_per_case": [
            {
                "metrics": {
                    label: {"TP": tp, "FP": fp, "FN": fn, "TN": 0, "n_pred": tp + fp, "n_ref": tp + fn}
                    for label, (tp, fp, fn) in case.items()
                }
            }
            for case in cases
        ]
    }


def test_by_hand():
    # |P∩R| = 6, |P| = 8, |R| = 10, |P∪R| = 12
    assert overlap(tp=6, fp=2, fn=4) == pytest.approx(
        {"Dice": 12 / 18, "sensitivity": 0.6, "precision": 0.75, "VOE": 0.5, "RVD": -0.2}
    )


def test_what_true_negatives_add_by_hand():
    found = voxel_metrics(tp=6, fp=2, fn=4, tn=88)
    assert found == pytest.approx(overlap(6, 2, 4) | {"IoU": 0.5, "specificity": 88 / 90, "abs_RVD": 0.2})
    everything_is_reference = voxel_metrics(tp=6, fp=0, fn=4, tn=0)
    assert math.isnan(everything_is_reference["specificity"])
    nothing = voxel_metrics(0, 0, 0, 9)
    assert {name for name, value in nothing.items() if not math.isnan(value)} == {"specificity"}


def test_perfect_and_disjoint():
    assert overlap(5, 0, 0) == {"Dice": 1, "sensitivity": 1, "precision": 1, "VOE": 0, "RVD": 0}
    assert overlap(0, 6, 3) == {"Dice": 0, "sensitivity": 0, "precision": 0, "VOE": 1, "RVD": 1}


def test_against_a_loop_over_voxels():
    rng = np.random.default_rng(0)
    prediction, reference = rng.random((2, 4, 5, 6)) < 0.4
    both = either = predicted = true = 0
    for p, r in zip(prediction.flat, reference.flat):
        both += p and r
        either += p or r
        predicted += p
        true += r
    found = overlap(
        int((prediction & reference).sum()), int((prediction & ~reference).sum()), int((~prediction & reference).sum())
    )
    assert found == pytest.approx(
        {
            "Dice": 2 * both / (predicted + true),
            "sensitivity": both / true,
            "precision": both / predicted,
            "VOE": 1 - both / either,
            "RVD": (int(predicted) - int(true)) / true,
        }
    )


def test_nothing_to_find_and_nothing_found():
    empty_reference = overlap(0, 3, 0)
    assert {m for m in METRICS if math.isnan(empty_reference[m])} == {"sensitivity", "RVD"}
    assert empty_reference["Dice"] == 0
    empty_prediction = overlap(0, 0, 3)
    assert {m for m in METRICS if math.isnan(empty_prediction[m])} == {"precision"}
    assert empty_prediction["RVD"] == -1
    assert all(math.isnan(value) for value in overlap(0, 0, 0).values())


def test_undefined_values_are_left_out_and_counted():
    cases = cases_of(_summary({"1": (6, 2, 4)}, {"1": (0, 0, 0)}))
    assert fold_means(cases)["Dice"] == pytest.approx(12 / 18)
    assert undefined(cases) == dict.fromkeys(METRICS, 1)
    table = overlap_table({"nnUNetTrainer": [cases]})
    assert "1 of Dice" in table and "1 of RVD" in table


def test_fold_means_average_cases_then_labels_and_take_the_size_of_volume_differences():
    # label 1: RVD +1 and −1/2; label 2: one case without reference
    cases = cases_of(_summary({"1": (2, 2, 0), "2": (1, 0, 0)}, {"1": (1, 0, 1), "2": (0, 0, 0)}))
    means = fold_means(cases)
    assert means["RVD"] == pytest.approx(((1 + 0.5) / 2 + 0) / 2)
    assert means["Dice"] == pytest.approx(((2 / 3 + 2 / 3) / 2 + 1) / 2)
    assert cases[1]["1"]["RVD"] == -0.5


def test_mean_and_sample_deviation_over_folds():
    folds = [dict.fromkeys(METRICS, value) for value in (0.2, 0.4, 0.9)]
    mean, sd = mean_and_sd(folds)["Dice"]
    assert mean == pytest.approx(0.5)
    assert sd == pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 2))
    assert math.isnan(mean_and_sd(folds[:1])["Dice"][1])


def test_table_has_one_line_per_trainer_in_percent():
    one, two = cases_of(_summary({"1": (6, 2, 4)})), cases_of(_summary({"1": (5, 0, 0)}))
    table = overlap_table({"nnUNetTrainer": [one, two], "nnUNetTrainerCSAD": [two]})
    lines = table.splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    stock = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert stock == ["nnUNetTrainer", "2", "83.3 ± 23.6", "80.0 ± 28.3", "87.5 ± 17.7", "25.0 ± 35.4", "10.0 ± 14.1"]
    assert "| nnUNetTrainerCSAD |     1 |" in lines[3] and "±" not in lines[3]


def test_reads_what_nnunet_writes(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(_summary({"(1, 2)": (6, 2, 4), "2": (0, 0, 0)}) | {"mean": {"2": {"Dice": math.nan}}}))
    assert read_cases(path)[0]["(1, 2)"]["RVD"] == pytest.approx(-0.2)
