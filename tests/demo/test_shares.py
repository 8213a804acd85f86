"""Which modality counted in the demo: numbers that can be computed by hand."""

import pandas as pd
import pytest

from nnunet_xmodal.demo.conditions import conditions_of
from nnunet_xmodal.demo.shares import shares_of_dice, shares_sentence


def test_values_add_up_to_the_dice_of_the_complete_case():
    conditions = conditions_of([[0], [1]], ["T2W", "ADC"])
    worth = {"complete": 0.9, "without T2W": 0.7, "without ADC": 0.3}
    rows = [("A", condition, "case", "lesion", value) for condition, value in worth.items()]
    dice = pd.DataFrame(rows, columns=["trainer", "condition", "case", "label", "Dice"])
    (row,) = shares_of_dice(dice, conditions, "A").to_dict("records")
    assert row["T2W"] == pytest.approx((0.3 + 0.9 - 0.7) / 2) and row["ADC"] == pytest.approx((0.7 + 0.9 - 0.3) / 2)
    assert shares_sentence(shares_of_dice(dice, conditions, "A"), "A") == "- A, lesion: T2W 25.0, ADC 65.0"
    assert shares_of_dice(dice, conditions_of([[0], [1], [2]], ["T1", "T2W", "ADC"]), "A") is None


def test_what_has_no_dice_has_no_shares_and_keeps_its_row():
    """A case without a lesion, in which none is predicted; and a condition that is undefined for all."""
    conditions = conditions_of([[0], [1]], ["T2W", "ADC"])
    rows = [("A", str(c), case, label, 0.5) for c in conditions for case in "ab" for label in ("organ", "lesion")]
    dice = pd.DataFrame(rows, columns=["trainer", "condition", "case", "label", "Dice"])
    dice.loc[(dice["case"] == "b") & (dice["label"] == "lesion"), "Dice"] = float("nan")
    shares = shares_of_dice(dice, conditions, "A")
    assert list(zip(shares["case"], shares["label"])) == [
        ("a", "organ"),
        ("a", "lesion"),
        ("b", "organ"),
        ("b", "lesion"),
    ]
    assert shares.set_index(["case", "label"]).isna().all(axis=1).tolist() == [False, False, False, True]
    dice.loc[dice["condition"] == "without T2W", "Dice"] = float("nan")
    assert shares_of_dice(dice, conditions, "A")[["T2W", "ADC"]].isna().all().all()
