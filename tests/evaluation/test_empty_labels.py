"""Rules for empty labels, on the metrics of masks that are empty."""

import math

import numpy as np
import pandas as pd
import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.case_metrics import case_metrics
from nnunet_xmodal.evaluation.empty_labels import BRATS_DISTANCE_MM, with_rule
from nnunet_xmodal.evaluation.empty_rules import EMPTY_RULES
from nnunet_xmodal.evaluation.metrics import SEGMENTATION_METRICS

OVERLAPS = [name for name, metric in SEGMENTATION_METRICS.items() if metric.kind == "overlap"]
UNTOUCHED = [name for name, metric in SEGMENTATION_METRICS.items() if metric.kind is None]


@pytest.fixture
def cases():
    """One row per state, named by it; "" for masks that differ but have both voxels."""
    empty, some, other = np.zeros((3, 6, 7, 8), np.uint8)
    some[1:4, 1:4, 1:4] = other[2:5, 1:4, 1:4] = 1
    pairs = {"": (some, other), "both": (empty, empty), "reference": (some, empty), "prediction": (empty, some)}
    rows = {state: case_metrics(*pair, (1, 1, 1), {"a": (1,)})["a"] for state, pair in pairs.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def test_nnunets_rule_only_tells(cases):
    found = with_rule(cases, "nan")
    assert list(found.pop("empty")) == list(cases.index)
    pd.testing.assert_frame_equal(found, cases)


def test_brats_rule(cases):
    before = cases.copy()
    found = with_rule(cases, "brats")
    pd.testing.assert_frame_equal(cases, before)  # the table given stays as it is
    assert list(found["empty"]) == ["", "both", "reference", "prediction"]
    assert (found.loc["both", OVERLAPS] == 1).all()
    assert (found.loc["both", ["VOE", "RVD", "abs_RVD", "HD95", "ASSD"]] == 0).all()
    for state in ("reference", "prediction"):
        assert (found.loc[state, OVERLAPS] == 0).all()
        assert (found.loc[state, ["HD95", "ASSD"]] == BRATS_DISTANCE_MM).all()
        assert found.loc[state, "VOE"] == 1
    assert math.isnan(found.loc["reference", "RVD"]) and math.isnan(found.loc["reference", "abs_RVD"])
    assert found.loc["prediction", "RVD"] == -1 and found.loc["prediction", "abs_RVD"] == 1
    pd.testing.assert_frame_equal(found[UNTOUCHED], cases[UNTOUCHED])
    pd.testing.assert_series_equal(found.loc[""].drop("empty"), cases.loc[""], check_dtype=False)


def test_the_number_is_brats(cases):
    assert BRATS_DISTANCE_MM == pytest.approx(373.12866, abs=5e-6)


def test_tables_without_volumes_or_of_other_metrics(cases):
    foreign = pd.DataFrame({"SRE_mm": [1.0, math.nan]})
    for rule in EMPTY_RULES:
        found = with_rule(foreign, rule)
        assert list(found.pop("empty")) == ["", ""]
        pd.testing.assert_frame_equal(found, foreign)
    unknown = with_rule(cases.assign(volume_ml=math.nan, reference_volume_ml=math.nan), "brats")
    assert (unknown["empty"] == "").all()


def test_rows_may_share_their_index_and_columns_be_integers():
    table = pd.DataFrame({"HD95": [3, 0], "volume_ml": [1.0, 0.0], "reference_volume_ml": [1.0, 2.0]}, index=[5, 5])
    assert list(with_rule(table, "brats")["HD95"]) == [3, BRATS_DISTANCE_MM]


def test_rules_that_do_not_exist(cases):
    with pytest.raises(XModalError, match="'zero'.*nan, brats"):
        with_rule(cases, "zero")
