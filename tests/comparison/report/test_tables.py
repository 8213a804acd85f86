"""summary.md as a reader and a markdown parser see it."""

import re

import pandas as pd
import pytest

from nnunet_xmodal.comparison.report.numbers import p_value, shown, with_interval, with_prefix
from nnunet_xmodal.comparison.report.scores import best_models
from nnunet_xmodal.comparison.report.tables import markdown, markdown_table
from nnunet_xmodal.evaluation.metrics import SEGMENTATION_METRICS, Metric

DICE, HD95, PLAIN = (
    Metric("Dice", "higher", "overlap", "%"),
    Metric("HD95", "lower", "distance", "mm"),
    Metric("x", None),
)
NAN = float("nan")


def _tables(text):
    """Tables as rows of cells, split where GitHub splits them: at a | without a backslash."""
    tables = re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.MULTILINE)
    split = re.compile(r"(?<!\\)\|")
    return [[[c.strip() for c in split.split(line)[1:-1]] for line in table.splitlines()] for table in tables]


def test_numbers_are_shown_in_their_unit():
    assert shown(0.87654, DICE) == "87.7" and shown(5.126, HD95) == "5.13" and shown(0.0012345, PLAIN) == "0.001234"
    assert shown(-0.0001, DICE, signed=True) == "0.0"  # no sign of nothing
    assert with_interval(-0.012, -0.03, 0.005, DICE, signed=True) == "−1.2 [−3.0, +0.5]"
    assert with_interval(-0.012, NAN, NAN, DICE, signed=True) == "−1.2" and shown(NAN, HD95) == "–"
    assert (p_value(0.0004), p_value(0.0421), p_value(NAN)) == ("< 0.001", "0.042", "–")
    assert (with_prefix(30.8e6), with_prefix(1.52e12), with_prefix(7)) == ("30.8 M", "1.52 T", "7")


def test_all_sections_and_rectangular_tables(contents):
    text = markdown(contents)
    titles = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert titles == ["Scores", "Comparisons", "Detection", "Cost", "Facts", "Notes", "Definitions"]
    assert all(len({len(row) for row in table}) == 1 for table in _tables(text))
    # mean over labels and two labels; pairs and Friedman of two labels; detection and cost
    assert len(_tables(text)) == 3 + 2 * 2 + 2


def test_scores_are_those_of_the_summary_and_the_best_is_bold(contents):
    of_core = contents.summary.query("label == 'tumour core' and metric == 'HD95'").set_index("model")
    text = markdown(contents)
    table = _tables(text[text.index("### tumour core") :])[0]
    assert table[0] == ["model", "Dice (%) ↑", "HD95 (mm) ↓", "lesion_F1 (%) ↑", "cases", "empty", "folds"]
    best = of_core["mean_of_folds"].idxmin()
    for row in table[2:]:
        score = f"{of_core.loc[row[0], 'mean_of_folds']:.2f} ± {of_core.loc[row[0], 'sd_of_folds']:.2f}"
        assert row[2] == (f"**{score}**" if row[0] == best else score)
        assert row[4:] == ["12", "1", "3"]
    assert "Undefined and left out: nnUNetTrainer 1 of HD95;" in text


def test_best_is_by_direction_and_by_what_is_printed():
    rows = pd.DataFrame({"mean_of_folds": [0.8761, 0.8764, 0.5, NAN]}, index=list("ABCD"))
    assert best_models(rows, DICE) == {"A", "B"} and best_models(rows, HD95) == {"C"}
    assert best_models(rows.loc[["A"]], DICE) == best_models(rows, PLAIN) == set()


def test_pairs_are_those_of_the_statistics(contents):
    text = markdown(contents)
    table = _tables(text[text.index("### tumour core, compared") :])[0]
    row = contents.statistics.query("label == 'tumour core' and metric == 'Dice' and test == 'wilcoxon'").iloc[1]
    found = table[2 + 1]
    assert found[:4] == ["Dice (pp)", row["model_a"], row["model_b"], "12"]
    assert found[4] == with_interval(row["mean_difference"], row["mean_low"], row["mean_high"], DICE, signed=True)
    assert found[6:9] == [p_value(row["p"]), p_value(row["p_holm"]), f"{row['wins']} / 0 / {row['losses']}"]
    assert [r[-1] for r in table if r[0] == "HD95 (mm)"] == ["1 pair undefined"] * 3


def test_hostile_names_stay_in_their_cell():
    table = markdown_table(["model", "n"], [["a|b", "1"], ["<script>x</script>", "2"], ["line\nbreak *c* `d`", "3"]])
    assert [row[0] for row in _tables(table)[0][2:]] == [
        r"a\|b",
        r"\<script>x\</script>",
        r"line break \*c\* \`d\`",
    ]


def test_a_pipe_in_every_name(make_cases, make_contents):
    cases = make_cases(models=("a|b", "c|d", "e|f"), labels=("x|y", "z"))
    text = markdown(make_contents(cases, title="p|q", facts={"g|h": "i|j"}))
    assert all(len({len(row) for row in table}) == 1 for table in _tables(text))


def test_foreign_metrics_take_the_place_of_dice(make_cases, make_contents):
    metrics = {
        "SRE_mm": Metric("SRE_mm", "lower", None, "mm"),
        "count": Metric("count", None),
        "SSIM": Metric("SSIM", "higher"),
    }
    cases = make_cases(metrics=metrics, labels=("1",))
    text = markdown(make_contents(cases, metrics))
    assert _tables(text)[0][0] == ["model", "SRE_mm (mm) ↓", "SSIM ↑", "cases", "empty", "folds"]


def test_what_a_trainer_measures_besides_follows_the_metrics_of_segmentations(make_cases, make_contents):
    metrics = {
        "Dice": DICE,
        "RVD": SEGMENTATION_METRICS["RVD"],
        "HD95": HD95,
        "IoU": SEGMENTATION_METRICS["IoU"],
        "protocol_Dice": Metric("protocol_Dice", "higher"),
        "n_pred": Metric("n_pred", None),
    }
    text = markdown(make_contents(make_cases(metrics=metrics, labels=("1",)), metrics))
    header = ["model", "Dice (%) ↑", "HD95 (mm) ↓", "protocol_Dice ↑", "cases", "empty", "folds"]
    assert _tables(text)[0][0] == header


def test_of_many_models_the_pairs_are_left_to_the_other_files(make_cases, make_contents):
    cases = make_cases(models=tuple("ABCDEFG"), labels=("1",), metrics={"Dice": DICE})
    text = markdown(make_contents(cases, {"Dice": DICE}))
    assert "too many pairs of 7 models" in text and "statistics.csv" in text
    assert len(_tables(text)) == 4  # scores, ranks, detection, cost


@pytest.mark.parametrize("models", [("A",), ("A", "B")])
def test_one_and_two_models(make_cases, make_contents, models):
    text = markdown(make_contents(make_cases(models=models, labels=("1",), n=4)))
    assert ("## Comparisons" in text) == (len(models) > 1)
    assert ("no p-value: fewer than 6 pairs" in text) == (len(models) > 1)
    assert "Friedman" not in text
