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
