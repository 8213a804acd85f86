"""Results by what cases have."""

import csv
import json
import shutil

import numpy as np
import pytest

from nnunet_xmodal.commands.compare import main

MODELS = ("-d", "900", "-c", "2d", "-f", "0", "1", "2", "-np", "1", "--overlays", "0", "--by", "presence")


def rows_of(folder):
    return list(csv.DictReader((folder / "presence.csv").read_text(encoding="utf-8").splitlines()))


def test_means_of_every_pattern_with_the_number_of_cases(results, tmp_path, undrawn):
    results.add("nnUNetTrainer", shift=1)
    missing = results.references.parent / "missing.json"
    missing.write_text(json.dumps({"a_2": ["ADC"], "c_1": ["ADC"], "b_1": ["T2"]}))
    main([*MODELS, "-tr", "nnUNetTrainer", "-o", str(tmp_path / "report")])
    rows = rows_of(tmp_path / "report")
    cases = {row["presence"]: row["cases"] for row in rows}
    assert cases == {"complete": "3", "no ADC": "2", "no T2": "1"} and len(rows) == 3 * 3  # two labels and their mean
    with open(tmp_path / "report" / "cases.csv", encoding="utf-8") as file:
        dice = {(row["model"], row["case"], row["label"]): float(row["Dice"]) for row in csv.DictReader(file)}
    (row,) = [r for r in rows if (r["presence"], r["model"], r["label"]) == ("no ADC", "nnUNetTrainer", "core")]
    expected = np.mean([dice["nnUNetTrainer", case, "core"] for case in ("a_2", "c_1")])
    assert float(row["Dice (mean)"]) == pytest.approx(expected)
    assert "## By presence" in (tmp_path / "report" / "summary.md").read_text(encoding="utf-8")
    assert "By presence" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_folders_of_predictions_tell_for_themselves(results, tmp_path, undrawn, capsys):
    results.add("nnUNetTrainer", shift=1, folds={0: ("a_1", "a_2")})
    folder = tmp_path / "predicted"
    shutil.copytree(results.validation("nnUNetTrainer", 0), folder)
    described = results.model_folder("nnUNetTrainer") / "dataset.json"
    words = ["--folders", str(folder), "--gt", str(results.references), "--dataset_json", str(described)]
    words += ["--allow-missing", "--overlays", "0", "-np", "1", "--by", "presence"]
    with pytest.raises(SystemExit):
        main([*words, "-o", str(tmp_path / "report")])
    assert f"--by presence finds no missing.json that tells what cases lack in {folder}" in capsys.readouterr().err
    told = {"a_1": {"missing_channels": []}, "a_2": {"missing_channels": ["ADC"]}}
    (folder / "missing.json").write_text(json.dumps(told))
    main([*words, "-o", str(tmp_path / "report")])
    assert [row["presence"] for row in rows_of(tmp_path / "report")] == ["complete"] * 3 + ["no ADC"] * 3
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "missing.json").write_text(json.dumps(told | {"a_2": {"missing_channels": ["T2"]}}))
    words[2:2] = [str(other)]
    with pytest.raises(SystemExit):
        main([*words, "-o", str(tmp_path / "report")])
    assert "says that a_2 lacks T2, and another folder of predictions ADC" in capsys.readouterr().err
