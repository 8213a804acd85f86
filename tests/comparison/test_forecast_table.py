import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.comparison.forecast_table import forecast_table, rank_agreement
from nnunet_xmodal.errors import XModalError


def test_rank_correlation_and_interval():
    rng = np.random.default_rng(0)
    dice = rng.uniform(size=30)
    units = np.stack([dice + rng.normal(0, 0.2, 30), dice], 1)
    found = rank_agreement(units)
    assert found["spearman"] == pytest.approx(spearmanr(*units.T).statistic)
    assert found["low"] < found["spearman"] < found["high"] and found["p"] < 0.01
    assert found["mean_absolute_error"] == pytest.approx(np.abs(units[:, 0] - dice).mean())
    few = rank_agreement(units[:4])
    assert few["n"] == 4 and np.isnan(few["low"]) and not np.isnan(few["spearman"])
    assert np.isnan(rank_agreement(np.ones((8, 2)))["spearman"]) and rank_agreement(units[:0])["n"] == 0


def test_tables_beside_predictions_are_read_and_subjects_averaged(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    lines = [
        "case,label,folds,forecast_dice",
        "p_1,lesion,2,0.2",
        "p_2,lesion,2,0.4",
        "q,lesion,2,0.6",
        "r,lesion,2,0.9",
    ]
    (tmp_path / "a" / "uncertainty_part0of2.csv").write_text("\n".join(lines[:3]))
    (tmp_path / "a" / "uncertainty_part1of2.csv").write_text("\n".join([lines[0], *lines[3:], "s,lesion,2,"]))
    models = [ModelResults(name, tmp_path / name, {}) for name in "ab"]
    dice = {"p_1": 0.1, "p_2": 0.3, "q": 0.5, "r": 0.4, "s": 0.9}
    cases = pd.DataFrame(
        [("a", case, case.split("_")[0], "lesion", value) for case, value in dice.items()],
        columns=["model", "case", "subject", "label", "Dice"],
    )
    table = forecast_table(models, cases)
    (row,) = table.to_dict("records")
    assert row["model"] == "a" and row["n"] == 3 and row["spearman"] == pytest.approx(0.5)
    assert row["mean_absolute_error"] == pytest.approx(np.mean([0.1, 0.1, 0.5]))
    assert forecast_table(models[1:], cases) is None
    (tmp_path / "b" / "uncertainty.csv").write_text("case,label,forecast_dice\nq,lesion,high\n")
    with pytest.raises(XModalError, match=r"line 2 of .*uncertainty.csv has the forecast high"):
        forecast_table(models, cases)
