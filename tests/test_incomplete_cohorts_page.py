"""The published table of incomplete cohorts is that of the published values."""

import re
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parents[1] / "documentation" / "results"
SUBSETS = ("T1c FLAIR", "FLAIR", "T1c")


def test_the_table_is_that_of_the_values():
    table = pd.read_csv(RESULTS / "incomplete_cohorts.csv")
    table["Dice"] *= 100
    page = (RESULTS / "incomplete_cohorts.md").read_text()
    rows = re.findall(r"^\| `(nnUNetTrainer\w+)` \|(.+)\|$", page, re.M)
    twin = table["model"].str.endswith("(complete training)")
    told = " / ".join(f"{dice:.1f}" for dice in table[twin].groupby("label", sort=False)["Dice"].mean())
    assert f"has {told} with both sequences, {table[twin]['Dice'].mean():.1f} on average" in page
    table = table[~twin]
    assert len(rows) == table["model"].nunique() == 4
    assert table.groupby(["model", "subset", "label"])["case"].nunique().eq(9).all()
    for model, cells in rows:
        *of_subsets, mean, of_folds = (re.findall(r"\d+\.\d", cell) for cell in cells.split("|"))
        of_model = table[table["model"] == model]
        for subset, shown in zip(SUBSETS, of_subsets, strict=True):
            labels = of_model[of_model["subset"] == subset].groupby("label", sort=False)["Dice"].mean()
            assert shown == [f"{dice:.1f}" for dice in labels], (model, subset)
        cases = of_model.groupby("case")["Dice"].mean()
        assert mean == [f"{cases.mean():.1f}", f"{cases.std():.1f}"]
        assert of_folds == [f"{dice:.1f}" for dice in of_model.groupby("fold")["Dice"].mean()]
