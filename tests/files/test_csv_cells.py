"""Spreadsheets compute nothing that we write, and numbers stay numbers."""

import csv
import io

import pandas as pd
import pytest

from nnunet_xmodal.files.csv_cells import as_text, as_written, row_as_text, table_as_text
from nnunet_xmodal.preparation.report import write_report
from nnunet_xmodal.tasks.registration.table import RegistrationTable

FORMULAS = ["=1+1", "=cmd|'/c calc'!A1", "+SUM(A1)", "-2+3", "@SUM(1)", " =1+1", "\t=1", "\n@x", "-", "+case_001", "-a"]
HARMLESS = ["case_001", "", "1", "-1", "+1", "-1.5e-3", "-inf", "nan", " -2 ", "a=b", "x-y", "'=1", 3, -1.5, None, True]


@pytest.mark.parametrize("cell", FORMULAS)
def test_formulas_become_text(cell):
    assert as_text(cell) == "'" + cell and as_written(as_text(cell)) == cell


@pytest.mark.parametrize("cell", HARMLESS)
def test_all_else_stays(cell):
    assert as_text(cell) is cell
    if isinstance(cell, str) and cell != "'=1":
        assert as_written(cell) == cell


def test_tables_of_a_comparison():
    table = pd.DataFrame(
        {"case": ["=1", "b"], "=label": ["-x", None], "Dice": [-0.5, float("nan")], "n": [-1, 2], "ok": [True, False]}
    )
    before = table.copy()
    rows = list(csv.reader(io.StringIO(table_as_text(table).to_csv(index=False))))
    assert rows[0] == ["case", "'=label", "Dice", "n", "ok"]
    assert rows[1] == ["'=1", "'-x", "-0.5", "-1", "True"] and rows[2] == ["b", "", "", "2", "False"]
    pd.testing.assert_frame_equal(table, before)


def test_categories_too():
    table = pd.DataFrame({"model": pd.Categorical(["=a", "b"]), "label": ["x", "y"]})
    assert list(table_as_text(table)["model"]) == ["'=a", "b"]


def test_rows():
    assert row_as_text({"case": "@a", "tx": -1.0, "n": "-3"}) == {"case": "'@a", "tx": -1.0, "n": "-3"}


def test_registrations_are_read_as_they_were_called(tmp_path):
    """A second call goes on with the first one's table."""
    for name in ("=1+1", "-a", "anna"):
        RegistrationTable.of_folder(tmp_path).add({"case": name, "tx": -1.5, "init": "none"})
    table = RegistrationTable.of_folder(tmp_path)
    assert sorted(table.rows) == ["-a", "=1+1", "anna"] and table.rows["-a"]["tx"] == "-1.5"
    with open(table.file, newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == ["'-a", "'=1+1", "anna"]


def test_what_was_prepared(tmp_path):
    write_report([{"case": "-a", "channel": "=T2", "note": "@x", "similarity_before": -0.25}], tmp_path / "p.csv")
    with open(tmp_path / "p.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["case"], row["channel"], row["note"]) == ("'-a", "'=T2", "'@x")
    assert row["similarity_before"] == "-0.25"
