"""Comparisons against scipy, against naive loops, and as invariants."""

import math

import numpy as np
import pandas as pd
import pytest
from fast_ones import one_fast_in
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nnunet_xmodal.evaluation.metrics import Metric
from nnunet_xmodal.evaluation.statistics import COLUMNS, CaseValues, compare_all, compare_pair, holm, mean_ranks

DICE, HD95 = Metric("Dice", "higher", "overlap", "%"), Metric("HD95", "lower", "distance", "mm")
VOLUME = Metric("volume_ml", None, None, "ml")
METRICS = {metric.name: metric for metric in (DICE, HD95, VOLUME)}


def _cases(models=("A", "B", "C"), n=20, labels=("1",), seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        {
            "model": model,
            "fold": str(case % 5),
            "case": f"case_{case}",
            "subject": f"case_{case}",
            "label": label,
            "empty": "",
            "Dice": rng.uniform(0.5, 1),
            "HD95": rng.uniform(0, 20),
            "volume_ml": rng.uniform(1, 100),
        }
        for model in models
        for label in labels
        for case in range(n)
    ]
    return pd.DataFrame(rows)


def _of(cases, model, metric="Dice"):
    return cases.loc[cases["model"] == model, metric].to_numpy()


# ---- Holm


def _holm_step_down(p_values):
    """A naive loop: walk up the sorted p-values, multiply, never go down again."""
    adjusted, highest = {}, 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for step, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[index]))
        adjusted[index] = highest
    return [adjusted[index] for index in range(len(p_values))]


def test_holm_of_a_textbook_example():
    # four hypotheses, of which the step-down procedure at 0.05 rejects the first and the last
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_one_and_of_none():
    assert holm([0.04]) == pytest.approx([0.04])
    assert holm([]).shape == (0,)


def test_holm_does_not_count_what_was_not_tested():
    np.testing.assert_allclose(holm([0.01, math.nan, 0.04]), [0.02, math.nan, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_the_step_down_loop_keeps_the_order_and_never_lowers(p_values):
    adjusted = holm(p_values)
    assert adjusted == pytest.approx(_holm_step_down(p_values))
    assert (adjusted >= np.array(p_values) - 1e-15).all() and (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0).all()


# ---- two models


@pytest.mark.parametrize("n", [6, 11, 30, 80])
def test_p_is_scipys(n):
    a, b = np.random.default_rng(n).uniform(size=(2, n))
    compared, expected = compare_pair(a, b, "higher"), stats.wilcoxon(a, b)
    assert (compared.statistic, compared.wilcoxon_p) == (expected.statistic, expected.pvalue)
    assert compared.n == n and compared.note == ""


def test_intervals_are_scipys():
    a, b = np.random.default_rng(0).uniform(size=(2, 25))
    compared = compare_pair(a, b, "higher", seed=3)
    for statistic, method, found in (
        (np.mean, "BCa", (compared.mean_low, compared.mean_high)),
        (np.median, "percentile", (compared.median_low, compared.median_high)),
    ):
        expected = stats.bootstrap((a - b,), statistic, method=method, n_resamples=9999, rng=np.random.default_rng(3))
        assert found == pytest.approx(tuple(expected.confidence_interval), abs=1e-12)


@pytest.mark.parametrize("n", one_fast_in(3, [6, 7, 8, 9, 10, 11, 80]))
def test_wilcoxon_is_that_of_all_signs_with_ties_and_zeros(n):
    rng = np.random.default_rng(n)
    method = stats.PermutationMethod(n_resamples=np.inf) if n < 20 else "auto"
    for step in (1, 4, 50):
        a, b = rng.integers(0, 10, n) / step, rng.integers(0, 10, n) / step
        a[0] = b[0]
        compared, expected = compare_pair(a, b, "higher"), stats.wilcoxon(a - b, method=method)
        assert (compared.statistic, compared.wilcoxon_p) == pytest.approx((expected.statistic, expected.pvalue), 1e-12)


@pytest.mark.parametrize("size", [[0.1, 0.2, 0.3, 0.4, 0.5], [1 / 3] * 5, [1 / 3] * 4, [0.1]])
def test_equal_pairs_prove_nothing(size):
    """Of k signs none is rarer than 2/2ᵏ; a normal distribution, which scipy takes, gives 0.03 for the second."""
    of = f"only {len(size)} pairs differ" if len(size) > 1 else "only 1 pair differs"
    for zeros in (6, 8, 15, 35):
        compared = compare_pair([*size, *[0] * zeros], [0] * (len(size) + zeros), "higher")
        assert compared.wilcoxon_p == pytest.approx(2 / 2 ** len(size)) and compared.note == of


def test_many_ties_are_exact_up_to_fifty_pairs():
    """How often a fair coin falls so, where all differences are as large."""
    for heads, n in ((14, 18), (30, 50)):
        compared = compare_pair([1.0] * heads + [0.0] * (n - heads), [0.0] * heads + [1.0] * (n - heads), "higher")
        assert compared.wilcoxon_p == pytest.approx(stats.binomtest(heads, n).pvalue)


@pytest.mark.slow
def test_the_95_percent_interval_holds_the_mean_about_as_often():
    rng = np.random.default_rng(0)
    compared = [compare_pair(rng.exponential(size=30), np.ones(30), "higher", seed) for seed in range(100)]
    assert 85 <= sum(pair.mean_low <= 0 <= pair.mean_high for pair in compared) <= 100


values = st.lists(st.tuples(*[st.integers(0, 100).map(lambda i: i / 100)] * 2), min_size=2, max_size=30)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(values, st.sampled_from(["higher", "lower"]))
def test_swapping_the_models_swaps_everything(pairs, better):
    a, b = np.array(pairs).T
    there, back = compare_pair(a, b, better), compare_pair(b, a, better)
    assert there.mean_difference == -back.mean_difference and there.median_difference == -back.median_difference
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert there.wilcoxon_p == pytest.approx(back.wilcoxon_p, nan_ok=True)
    # the same resamples
    assert (there.mean_low, there.mean_high) == pytest.approx((-back.mean_high, -back.mean_low), abs=1e-9)
    assert (there.median_low, there.median_high) == pytest.approx((-back.median_high, -back.median_low), abs=1e-9)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(values)
def test_intervals_hold_their_statistic_and_counts_add_up(pairs):
    a, b = np.array(pairs).T
    compared = compare_pair(a, b, "higher")
    assert compared.mean_low - 1e-9 <= compared.mean_difference <= compared.mean_high + 1e-9
    assert compared.median_low - 1e-9 <= compared.median_difference <= compared.median_high + 1e-9
    assert compared.wins + compared.ties + compared.losses == compared.n == len(pairs)


def test_who_wins_depends_on_the_direction():
    a, b = [1, 1, 2, 5], [0, 1, 3, 3]
    higher, lower = compare_pair(a, b, "higher"), compare_pair(a, b, "lower")
    assert (higher.wins, higher.ties, higher.losses) == (2, 1, 1)
    assert (lower.wins, lower.ties, lower.losses) == (1, 1, 2)
    assert higher.mean_difference == lower.mean_difference == 0.5


def test_five_pairs_have_no_p_and_say_so():
    compared = compare_pair([1, 2, 3, 4, 5], [0] * 5, "higher")
    assert math.isnan(compared.wilcoxon_p) and compared.note == "no p-value: fewer than 6 pairs"
    assert compared.mean_difference == 3 and compared.wins == 5
    assert compare_pair([1, 2, 3, 4, 5, 6], [0] * 6, "higher").wilcoxon_p == 2 / 2**6


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_resample(n):
    compared = compare_pair([1.0] * n, [0.5] * n, "higher")
    assert compared.n == n and math.isnan(compared.mean_low) and math.isnan(compared.median_high)


def test_undefined_pairs_are_dropped_and_counted():
    a, b = np.random.default_rng(0).uniform(size=(2, 12))
    gaps = a.copy(), b.copy()
    gaps[0][[2, 3]], gaps[1][[3, 7]] = math.nan, math.nan
    keep = np.setdiff1d(np.arange(12), [2, 3, 7])
    compared, expected = compare_pair(*gaps, "lower"), compare_pair(a[keep], b[keep], "lower")
    assert compared.note == "3 pairs undefined"
    assert compared.wilcoxon_p == expected.wilcoxon_p and compared.mean_low == expected.mean_low and compared.n == 9


def test_equal_models():
    compared = compare_pair([0.5] * 8, [0.5] * 8, "higher")
    assert compared.wilcoxon_p == 1 and compared.ties == 8
    assert (compared.mean_low, compared.mean_high, compared.median_low, compared.median_high) == (0, 0, 0, 0)


def test_constant_differences_have_an_interval_without_width():
    compared = compare_pair([3.0] * 8, [1.0] * 8, "higher")
    assert (compared.mean_low, compared.mean_high) == (2, 2)
    assert compared.wilcoxon_p == stats.wilcoxon([2.0] * 8).pvalue


# ---- all models


def test_all_pairs_of_every_label_and_ranked_metric():
    table = compare_all(_cases(labels=("1", "2")), METRICS)
    assert tuple(table.columns) == COLUMNS
    assert set(table["metric"]) == {"Dice", "HD95"}  # a volume is neither good nor bad
    wilcoxon = table[(table["test"] == "wilcoxon") & (table["label"] == "2") & (table["metric"] == "HD95")]
    assert list(zip(wilcoxon["model_a"], wilcoxon["model_b"])) == [("A", "B"), ("A", "C"), ("B", "C")]
    assert wilcoxon["p_holm"].to_numpy() == pytest.approx(holm(wilcoxon["p"]))
    assert (table["test"] == "friedman").sum() == 4


def test_friedman_is_scipys():
    cases = _cases()
    row = compare_all(cases, METRICS).query("test == 'friedman' and metric == 'Dice'").iloc[0]
    expected = stats.friedmanchisquare(*(_of(cases, model) for model in "ABC"))
    assert row["statistic"] == pytest.approx(expected.statistic) and row["p"] == pytest.approx(expected.pvalue)
    assert row["n"] == 20


def test_friedman_of_equal_models_and_of_few_units():
    cases = _cases()
    cases["Dice"] = 0.5
    assert compare_all(cases, METRICS).query("test == 'friedman' and metric == 'Dice'")["p"].item() == 1
    row = compare_all(_cases(n=5), METRICS).query("test == 'friedman'").iloc[0]
    assert math.isnan(row["p"]) and "fewer than 6" in row["note"]


def test_one_and_two_models():
    assert compare_all(_cases(models=("A",)), METRICS).empty
    assert set(compare_all(_cases(models=("A", "B")), METRICS)["test"]) == {"wilcoxon"}


def test_cases_are_matched_by_name_whatever_fold_and_place_they_are_in():
    cases = _cases(models=("A", "B"))
    shuffled = cases.sample(frac=1, random_state=1)
    shuffled["fold"] = "0"
    shuffled = shuffled.sort_values("model", kind="stable")
    left, right = (compare_all(table, METRICS).query("metric == 'Dice'").iloc[0] for table in (cases, shuffled))
    assert (left["p"], left["mean_difference"]) == (pytest.approx(right["p"]), pytest.approx(right["mean_difference"]))


def test_the_subject_is_the_unit():
    cases = _cases(models=("A", "B"), n=21)
    cases["subject"] = [f"subject_{int(case.removeprefix('case_')) // 3}" for case in cases["case"]]
    row = compare_all(cases, METRICS).query("metric == 'Dice'").iloc[0]
    a, b = (_of(cases, model).reshape(7, 3).mean(1) for model in "AB")
    assert row["n"] == 7 and row["p"] == pytest.approx(stats.wilcoxon(a, b).pvalue)


def test_a_subjects_mean_is_over_cases_that_both_models_have():
    cases = _cases(models=("A", "B"), n=4)
    cases["subject"] = ["x", "x", "y", "y"] * 2
    cases["Dice"] = [math.nan, 0.8, 0.6, 0.7, 0.1, 0.7, math.nan, math.nan]
    units, left_out = CaseValues.of(cases, "Dice").units(("A", "B"))
    assert left_out == 0
    np.testing.assert_allclose(units.loc["x"], [0.8, 0.7])  # without 0.1, which A has nothing to set against
    assert units.loc["y"].isna().all()
    assert compare_all(cases, METRICS).query("metric == 'Dice'")["note"].item().startswith("1 pair undefined")


def test_units_of_one_model_only_are_told_apart_from_undefined_ones():
    cases = _cases(models=("A", "B"), n=10)
    cases.loc[0, "Dice"] = math.nan
    cases = cases[~((cases["model"] == "B") & cases["case"].isin(["case_8", "case_9"]))]
    row = compare_all(cases, METRICS).query("metric == 'Dice'").iloc[0]
    assert row["n"] == 7 and row["note"] == "2 units of one model only; 1 pair undefined"


def test_a_test_set_that_every_fold_predicts_counts_every_case_once():
    cases = pd.concat([_cases(models=("A", "B"), n=8, seed=fold).assign(fold=str(fold)) for fold in range(3)])
    row = compare_all(cases, METRICS).query("metric == 'Dice'").iloc[0]
    a, b = (_of(cases, model).reshape(3, 8).mean(0) for model in "AB")
    assert row["n"] == 8 and row["p"] == pytest.approx(stats.wilcoxon(a, b).pvalue)


def test_mean_ranks_against_scipy():
    cases = _cases()
    cases.loc[3, "Dice"] = math.nan
    for metric, sign in (("Dice", -1), ("HD95", 1)):
        values = np.column_stack([_of(cases, model, metric) for model in "ABC"])
        values = values[~np.isnan(values).any(1)]
        ranks = mean_ranks(cases, METRICS).query("metric == @metric")
        assert ranks["mean_rank"].to_numpy() == pytest.approx(stats.rankdata(sign * values, axis=1).mean(0))
        assert set(ranks["n"]) == {len(values)} and ranks["mean_rank"].mean() == pytest.approx(2)
