"""The demo's table: numbers that can be computed by hand."""

import pandas as pd

from nnunet_xmodal.demo.results import dice_table

COLUMNS = ["trainer", "condition", "case", "label", "Dice"]


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_means_deviations_and_paired_differences():
    rows = [
        (trainer, "complete", f"case{number}", "lesion", value)
        for trainer, values in (("A", (0.4, 0.6, 0.8)), ("B", (0.5, 0.7, 0.9)))
        for number, value in enumerate(values)
    ]
    header, _, row = cells(dice_table(pd.DataFrame(rows, columns=COLUMNS), ["A", "B"]))
    assert header == ["cases", "label", "A", "B", "B − A"]
    assert row == ["complete (3)", "lesion", "60.0 ± 20.0", "70.0 ± 20.0", "+10.0 [+10.0, +10.0]"]


def test_the_mean_of_labels_is_taken_within_cases():
    rows = [("A", "complete", case, label, value) for case, label, value in (("c", "x", 0.2), ("c", "y", 0.8))]
    table = cells(dice_table(pd.DataFrame(rows, columns=COLUMNS), ["A"]))
    assert [row[1:] for row in table[2:]] == [["x", "20.0"], ["y", "80.0"], ["mean of labels", "50.0"]]


def test_cases_are_paired_by_name_and_not_by_order():
    rows = [("A", "complete", "c", "x", 0.1), ("A", "complete", "d", "x", 0.9)]
    rows += [("B", "complete", "d", "x", 1.0), ("B", "complete", "c", "x", 0.2)]
    table = dice_table(pd.DataFrame(rows, columns=COLUMNS), ["A", "B"])
    assert cells(table)[2][-1].startswith("+10.0")
