"""The summary of a final validation: cases of all ranks in order, and their means, by nnU-Net's keys."""

import json

import pytest

from nnunet_xmodal.evaluation import validation_summary
from nnunet_xmodal.evaluation.validation_summary import gather_results, mean_metrics, write_summary


def result(file, **metrics):
    return {"prediction_file": file, "metrics": {"1": metrics}}


RESULTS = [result("a", SRE_mm=1.0, Dice=0.5), result("b", SRE_mm=4.0, Dice=0.75)]


def test_means_are_over_cases():
    assert mean_metrics(RESULTS, "1") == {"SRE_mm": 2.5, "Dice": 0.625}


def test_one_process_keeps_its_results():
    assert gather_results(RESULTS, 1) is RESULTS


def test_the_cases_of_all_ranks_are_in_the_order_of_their_files(monkeypatch):
    def all_gather(parts, part):
        parts[:] = [part, RESULTS[:1]]

    monkeypatch.setattr(validation_summary.dist, "all_gather_object", all_gather)
    assert gather_results(RESULTS[1:], 2) == RESULTS


def test_the_file_has_what_the_comparison_reads(tmp_path):
    write_summary(tmp_path, RESULTS, "1", {"directions": {"SRE_mm": "lower"}})
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["metric_per_case"] == RESULTS and summary["xmodal"] == {"directions": {"SRE_mm": "lower"}}
    assert summary["mean"]["1"] == summary["foreground_mean"] == pytest.approx({"SRE_mm": 2.5, "Dice": 0.625})
