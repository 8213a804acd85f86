import math
import struct

import numpy as np
import pandas as pd
import pytest
from fast_ones import one_fast_in
from matplotlib import pyplot

from nnunet_xmodal.comparison.report.contents import Curve
from nnunet_xmodal.comparison.report.plots import CURVES, curve_plot, difference_plot, score_plot
from nnunet_xmodal.evaluation.metrics import SEGMENTATION_METRICS, Metric
from nnunet_xmodal.evaluation.statistics import compare_all

DICE, HD95 = SEGMENTATION_METRICS["Dice"], SEGMENTATION_METRICS["HD95"]
METRICS = {"Dice": DICE, "HD95": HD95}


def _size(png):
    """Width and height of a PNG file."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def _label(make_cases, models, **where):
    return make_cases(models=models, labels=("1",), metrics=METRICS, **where)


@pytest.mark.parametrize("number", one_fast_in(2, [2, 12]))
def test_a_row_per_model(make_cases, number):
    models = [f"nnUNetTrainerOfAVeryLongName{i}_100epochs" for i in range(number)]
    cases = _label(make_cases, tuple(models))
    width, height = _size(score_plot(cases, DICE, models))
    assert width < 900 and 40 * number < height < 100 * number + 150
    assert score_plot(cases, DICE, models) == score_plot(cases, DICE, models)  # the jitter too


def test_differences_of_some_and_of_too_many_pairs(make_cases):
    for models, rows in (("AB", 1), ("ABCD", 6), ("ABCDEFGHIJKL", 15)):
        cases = _label(make_cases, tuple(models), n=6)
        pairs = compare_all(cases, {"HD95": HD95}).query("test == 'wilcoxon'")
        width, height = _size(difference_plot(cases, HD95, pairs))
        assert width < 900 and 60 * rows < height < 100 * rows + 250


def test_nothing_to_draw(make_cases):
    cases = _label(make_cases, ("A", "B")).assign(Dice=math.nan)
    assert score_plot(cases, DICE, ["A", "B"]) is None
    assert difference_plot(cases, DICE, compare_all(cases, {"Dice": DICE})) is None
    assert curve_plot({}, "train_loss", ["A"]) is None
    assert curve_plot({"A": {"0": Curve([0, 1], [math.nan] * 2)}}, "train_loss", ["A"]) is None
    assert curve_plot({"A": {"0": Curve([0, 1], [1, 2])}}, "pseudo_dice", ["A"]) is None


def test_undefined_and_infinite_values_are_left_out(make_cases):
    cases = _label(make_cases, ("A", "B", "C"))
    cases.loc[0, "HD95"], cases.loc[1, "HD95"] = math.inf, math.nan
    cases.loc[cases["model"] == "C", "HD95"] = math.nan  # a model without a box
    assert score_plot(cases, HD95, ["A", "B", "C"])


def test_a_long_tail_of_distances(make_cases):
    cases = _label(make_cases, ("A", "B")).assign(HD95=[*[1.0] * 23, 373.1])
    assert score_plot(cases, HD95, ["A", "B"])


@pytest.mark.filterwarnings("error")
def test_names_are_no_mathematics_and_no_hidden_legends(make_cases):
    models = ["$x$", "_hidden", r"\frac{1}", "<b>$", ""]
    cases = _label(make_cases, tuple(models))
    metric = Metric("Dice", "higher", "overlap", "%")
    assert score_plot(cases, metric, models)
    assert difference_plot(cases, metric, compare_all(cases, {"Dice": metric}).query("test == 'wilcoxon'"))
    assert curve_plot({model: {"0": Curve([0, 1], [1.0, 0.5])} for model in models}, "train_loss", models)


def test_curves_of_folds_that_differ_in_length_and_were_resumed():
    rng = np.random.default_rng(0)
    folds = {
        "0": Curve(range(30), rng.random(30), rng.random(30), rng.random(30)),
        "1": Curve([0, 1, 1, 2], [4, 3, 3, 2]),
    }
    curves = {"A": folds, "B": {"all": Curve([0], [1.0])}}
    for what in CURVES:
        assert _size(curve_plot(curves, what, ["A", "B", "C"]))[0] < 900


def test_pyplot_is_left_alone(make_cases):
    before = pyplot.get_fignums()
    score_plot(_label(make_cases, ("A", "B")), DICE, ["A", "B"])
    assert pyplot.get_fignums() == before


def test_a_model_without_cases_keeps_its_row(make_cases):
    cases = _label(make_cases, ("A", "B"))
    assert isinstance(cases, pd.DataFrame) and score_plot(cases, DICE, ["A", "B", "absent"])
