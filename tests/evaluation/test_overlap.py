"""Overlap metrics against numbers worked out by hand and against a loop over voxels."""

import math

import numpy as np
import pytest

from nnunet_xmodal.evaluation.overlap import voxel_metrics


def undefined(values: dict[str, float]) -> set[str]:
    return {name for name, value in values.items() if math.isnan(value)}


def test_by_hand():
    # |P∩R| = 6, |P| = 8, |R| = 10, |P∪R| = 12, 90 voxels outside of R
    assert voxel_metrics(tp=6, fp=2, fn=4, tn=88) == pytest.approx(
        {
            "Dice": 12 / 18,
            "IoU": 0.5,
            "sensitivity": 0.6,
            "precision": 0.75,
            "specificity": 88 / 90,
            "VOE": 0.5,
            "RVD": -0.2,
            "abs_RVD": 0.2,
        }
    )


def test_perfect_and_disjoint():
    perfect, disjoint = voxel_metrics(5, 0, 0, 1), voxel_metrics(0, 6, 3, 6)
    assert all(perfect[name] == 1 for name in ("Dice", "IoU", "sensitivity", "precision", "specificity"))
    assert all(perfect[name] == 0 for name in ("VOE", "RVD", "abs_RVD"))
    assert all(disjoint[name] == 0 for name in ("Dice", "IoU", "sensitivity", "precision"))
    assert (disjoint["specificity"], disjoint["VOE"], disjoint["RVD"]) == (0.5, 1, 1)


def test_against_a_loop_over_voxels():
    rng = np.random.default_rng(0)
    prediction, reference = rng.random((2, 4, 5, 6)) < 0.4
    both = either = predicted = true = neither = 0
    for p, r in zip(prediction.flat, reference.flat):
        both += int(p and r)
        either += int(p or r)
        predicted += int(p)
        true += int(r)
        neither += int(not p and not r)
    assert voxel_metrics(both, predicted - both, true - both, neither) == pytest.approx(
        {
            "Dice": 2 * both / (predicted + true),
            "IoU": both / either,
            "sensitivity": both / true,
            "precision": both / predicted,
            "specificity": neither / (prediction.size - true),
            "VOE": 1 - both / either,
            "RVD": (predicted - true) / true,
            "abs_RVD": abs(predicted - true) / true,
        }
    )


def test_nothing_to_find_and_nothing_found():
    assert undefined(voxel_metrics(0, 3, 0, 9)) == {"sensitivity", "RVD", "abs_RVD"}
    assert undefined(voxel_metrics(0, 0, 3, 9)) == {"precision"}
    assert undefined(voxel_metrics(6, 0, 4, 0)) == {"specificity"}
    assert set(voxel_metrics(0, 0, 0, 9)) - undefined(voxel_metrics(0, 0, 0, 9)) == {"specificity"}
