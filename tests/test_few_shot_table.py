"""Tables of few-shot trials: what is read, what is compared with what."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "experiments"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return runpy.run_path(str(FOLDER / "few_shot_table.py"), run_name="imported")


@pytest.fixture
def trials(script, tmp_path):
    """Two folds of three scans; the second trainer has a point less everywhere, and one more in fold 1's spleen."""
    lines = []
    for fold in (0, 1):
        dice = np.random.default_rng(fold).uniform(50, 90, (3, 2)).round(2)
        for trainer, less in (("A", 0.0), ("B", 1.0)):
            values = (dice - less + (2 * less * fold * np.array([0, 1]))).tolist()
            trial = {"trainer": trainer, "dataset": "Dataset972_Organs", "fold": fold, "steps": 200, "cpu": 10.0 + fold}
            trial |= {"size": [128, 96], "labels": ["liver", "spleen"], "cases": [f"{fold}{scan}" for scan in "abc"]}
            lines.append(json.dumps(trial | dict.fromkeys(script["WAYS"], values)))
    file = tmp_path / "trial.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_row_is_a_label_of_a_scan_and_comes_back_from_csv(script, trials, tmp_path):
    results = script["read_trials"]([trials])
    assert len(results) == 2 * 2 * 3 * 2 and set(results["size"]) == {"128×96"}
    results.to_csv(tmp_path / "trials.csv", index=False)
    again = script["read_trials"]([tmp_path / "trials.csv"])
    assert script["by_protocol"](again) == script["by_protocol"](results)


def test_a_scan_is_a_unit_and_so_is_a_fold(script, trials):
    compared = script["against"](script["read_trials"]([trials]), "A", "protocol")
    row = compared.iloc[0]
    assert (row["trainer"], row["scans"], row["ahead"]) == ("B", 6, 3)  # level in fold 1, where labels cancel
    assert row["gain"] == pytest.approx(0.5) == (row["low"] + row["high"]) / 2
    assert row["high"] - row["low"] == pytest.approx(2 * 12.706 * 0.5, rel=1e-3)  # Student's t of one degree of freedom


def test_the_best_comes_first(script, trials):
    table = script["by_protocol"](script["read_trials"]([trials])).splitlines()
    assert table[2].startswith("| `A` |") and table[3].startswith("| `B` |") and "| 0, 1: " in table[2]
    assert script["by_way"](script["read_trials"]([trials])).count("\n") == 3


def test_a_task_without_the_trainer_that_others_are_compared_with_has_its_tables(script, trials, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["few_shot_table.py", str(trials), "--first", "C"])
    script["main"]()
    printed = capsys.readouterr().out
    assert "## Dataset972_Organs, 128×96, 200 steps" in printed and "C has no trial here" in printed


def test_the_published_tables_are_those_of_the_published_trials(script):
    results = FOLDER.parents[1] / "documentation" / "results"
    page = (results / "few_shot_rivals.md").read_text(encoding="utf-8")
    trials = script["read_trials"]([results / "few_shot_rivals.csv"])
    for _, of_task in trials.groupby(script["TASK"]):
        for table in (script["by_protocol"], script["by_way"]):
            for line in table(of_task).splitlines()[2:]:
                assert line in page
