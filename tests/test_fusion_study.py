"""The fusion study's phantoms, splits, controls, statistics and rule; its trainings run in no test."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

EXPERIMENTS = Path(__file__).parents[1] / "benchmarks" / "experiments"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)


def gains(**by_method):
    """A table of gains; every method has a list of (gain, low, high), a regime each."""
    rows = [
        {"regime": f"r{index}", "method": method, "gain": gain, "low": low, "high": high, "per_training": [gain, gain]}
        for method, values in by_method.items()
        for index, (gain, low, high) in enumerate(values)
    ]
    return pd.DataFrame(rows)


def results(gain_of_training, cases=60):
    """Dice of the baseline and of SCFF, which is better by the given gains, with the cases' own ups and downs."""
    rng = np.random.default_rng(0)
    rows = []
    for seed, gain in enumerate(gain_of_training):
        for case in range(cases):
            dice = 70 + 10 * rng.normal()
            rows.append(("aligned", seed, 0, "MultiStream", 1000, f"case{case}", dice))
            rows.append(("aligned", seed, 0, "SCFF", 1000, f"case{case}", dice + gain + rng.normal()))
    return pd.DataFrame(rows, columns=["regime", "seed", "fold", "method", "steps", "case", "Dice"])


def test_cases_of_a_regime_repeat_and_always_hold_a_lesion():
    from fusion_phantoms import REGIMES, study_case

    for seed in range(5):
        labels = []
        for regime in REGIMES.values():
            case, again = (study_case(regime, np.random.default_rng(seed)) for _ in range(2))
            assert np.array_equal(case.images, again.images)
            assert case.label.sum() >= 30
            labels.append(case.label)
        assert all(np.array_equal(label, labels[0]) for label in labels)


def test_folds_validate_every_case_once_and_share_no_training_case():
    from fusion_phantoms import REGIMES, folds_of

    cases = [f"case{index:03d}" for index in range(300)]
    for regime in REGIMES.values():
        folds = folds_of(regime, cases)
        assert sorted(case for fold in folds for case in fold["val"]) == cases
        trained = [case for fold in folds for case in fold["train"]]
        assert len(set(trained)) == len(trained) == 5 * regime.training_cases
        assert all(len(fold["val"]) == 60 and not set(fold["val"]) & set(fold["train"]) for fold in folds)


def test_the_ranking_has_the_best_first_and_gains_over_trainings():
    from fusion_ranking import ranking, ranking_as_markdown

    of_cases = results([1.0, 2.0, 3.0])
    trainings = of_cases.groupby(["regime", "seed", "fold", "method"], as_index=False)["Dice"].mean()
    trainings = trainings.assign(parameters=1234, training_seconds=[10.0, 20.0] * 3)
    table = ranking(of_cases, trainings)
    assert list(table["method"]) == ["SCFF", "MultiStream"] and list(table["trainings"]) == [3, 3]
    best = table.iloc[0]
    assert best["gain"] == pytest.approx(2, abs=0.2) and best["low"] < 1 < 3 < best["high"] and best["p_holm"] < 0.01
    assert best["Dice"] == pytest.approx(of_cases.loc[of_cases["method"] == "SCFF", "Dice"].mean())
    head, _, first, second = ranking_as_markdown(table).splitlines()
    assert first.startswith("| 1 | SCFF |") and first.endswith("| 1,234 | 2.0 |") and "* [" in first
    assert second.startswith("| 2 | MultiStream |") and second.endswith("| – | 1,234 | 1.0 |")
    with pytest.raises(ValueError, match="one regime, and there are aligned, shifted"):
        ranking(pd.concat([of_cases, of_cases.assign(regime="shifted")]), trainings)


def test_the_published_ranking_is_that_of_the_published_results():
    from fusion_analysis import read_results, read_trainings
    from fusion_ranking import ranking

    file = Path(__file__).parents[1] / "documentation" / "results" / "fusion_rivals.csv"
    page = file.with_suffix(".md").read_text(encoding="utf-8")
    table = ranking(read_results(file), read_trainings(file))
    assert len(table) == 18
    for place, row in enumerate(table.itertuples(), start=1):
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {place} |")]
        assert row.method in line and f"| {row.Dice:.1f} ± {row.SD:.1f} | {row.folds} |" in line


def test_too_few_cases_for_a_regime_are_an_error():
    from fusion_phantoms import REGIMES, folds_of

    with pytest.raises(ValueError, match="too few for 40"):
        folds_of(REGIMES["aligned"], [str(index) for index in range(100)])


def test_a_dataset_of_the_user_is_a_regime_under_a_number_that_no_phantom_has(tmp_path):
    from argparse import ArgumentTypeError

    from fusion_phantoms import REGIMES
    from fusion_study import dataset_name, regime_and_folder

    for name in ("Dataset501_Gliomas", "Dataset101_Gliomas"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").touch()
    regime, source = regime_and_folder(f"gliomas={tmp_path}/Dataset501_Gliomas")
    assert regime == "gliomas" and dataset_name(regime, 3, source) == "Dataset501_Gliomas"
    assert len({dataset_name(known, seed) for known in REGIMES for seed in range(100)}) == 100 * len(REGIMES)
    for wrong in ("aligned=Dataset501_Gliomas", "gliomas=Dataset101_Gliomas", "gliomas=Dataset502_Nothing", "gliomas"):
        with pytest.raises(ArgumentTypeError, match=wrong.split("=")[0]):
            regime_and_folder(wrong.replace("=", f"={tmp_path}/"))


def test_dice_of_a_case_is_the_mean_of_the_labels_that_it_has():
    from fusion_study import mean_dice

    metrics = {"(1, 2)": {"Dice": 0.8}, "2": {"Dice": 0.6}, "3": {"Dice": float("nan")}}
    assert mean_dice(metrics) == pytest.approx(70)


def test_controls_have_the_pairs_of_csad_with_targets_that_say_nothing_of_the_sample():
    from fusion_controls import CSADShuffled, CSADUniform

    from nnunet_xmodal.trainers.csad import nnUNetTrainerCSAD

    torch.manual_seed(0)
    features = [[torch.randn(3, 4, size, size) for size in (8, 4, 2)] for _ in range(2)]
    pairs = {trainer: trainer.distillation()(features) for trainer in (nnUNetTrainerCSAD, CSADUniform, CSADShuffled)}
    for (a, b), (a_uniform, uniform), (a_shuffled, shuffled) in zip(*pairs.values()):
        assert torch.equal(a, a_uniform) and torch.equal(a, a_shuffled)
        assert torch.allclose(uniform.exp(), torch.full_like(uniform, 1 / uniform[0].numel()))
        assert torch.equal(shuffled[1], b[0]) and torch.equal(shuffled[0], b[2])


def test_every_method_has_a_trainer_and_widths():
    from fusion_methods import BASELINE, CONTROLS, METHODS, WIDTHS

    assert BASELINE in METHODS and set(CONTROLS) <= set(METHODS)
    for method in METHODS.values():
        assert method.plans in WIDTHS and method.trainer_class().__name__ == method.trainer


def test_trainers_and_groups_are_methods_too_and_none_comes_twice():
    from fusion_methods import METHODS, STOCK, method_of, named

    from nnunet_xmodal.catalogue.groups import GROUPS

    assert sorted(named(["@fusion", "SCFF", "nnUNetTrainer"])) == sorted(named(["@fusion"])) and STOCK in named(
        ["@fusion"]
    )
    assert [method_of(name).trainer for name in named(["@fusion", "SCFF"])] == list(GROUPS["fusion"])
    assert method_of("SCFF") is METHODS["SCFF"] and method_of("HSCNet").plans == METHODS["SCFF"].plans
    with pytest.raises(AttributeError, match="Nonsense"):
        named(["nnUNetTrainerNonsense"])


def test_gains_are_paired_by_case_and_their_unit_is_the_case_within_a_regime():
    from fusion_analysis import differences

    table = differences(results([2.0, 3.0])).iloc[0]
    assert table["trainings"] == 2
    assert table["gain"] == pytest.approx(2.5, abs=0.3)
    assert 2 < table["low"] < table["gain"] < table["high"] < 3  # the cases' own spread of 10 is gone
    assert table["per_training"] == pytest.approx([2.0, 3.0], abs=0.4)


def test_a_training_without_its_baseline_is_left_out():
    from fusion_analysis import differences

    table = results([2.0, 3.0])
    table = table[~((table["seed"] == 1) & (table["method"] == "MultiStream"))]
    assert differences(table).iloc[0]["trainings"] == 1


def test_over_trainings_the_unit_is_the_training():
    from fusion_analysis import over_trainings

    table = over_trainings(gains(SCFF=[(1, 0, 2), (3, 2, 4)], CSAD=[(-1, -2, 0), (-1, -2, 0)]))
    assert list(table["method"]) == ["SCFF", "CSAD"]
    assert table.loc[0, "trainings"] == 4 and table.loc[0, "gain"] == 2 and table.loc[0, "ahead"] == 4
    assert table.loc[0, "low"] < 2 < table.loc[0, "high"]


def test_the_noise_of_trainings_is_what_the_baseline_gains_on_itself():
    from fusion_analysis import training_noise
    from fusion_methods import AGAIN

    assert training_noise(gains(**{AGAIN: [(3, 2, 4), (-4, -5, -3)], "SCFF": [(9, 8, 9)]})) == pytest.approx(12.5**0.5)
    assert np.isnan(training_noise(gains(SCFF=[(9, 8, 9)])))


def test_the_noise_of_trainings_widens_an_interval_the_less_the_more_trainings_there_are():
    from fusion_analysis import with_training_noise

    table = gains(SCFF=[(1, -2, 4)], CSAD=[(1, -2, 4)]).assign(trainings=[1, 4])
    wide = with_training_noise(table, 2)
    half = (9 + 3.92**2) ** 0.5
    assert wide.loc[0, ["low", "high"]].tolist() == pytest.approx([1 - half, 1 + half])
    assert wide.loc[1, "high"] == pytest.approx(1 + (9 + 1.96**2) ** 0.5)
    assert table.loc[0, "high"] == 4


def test_controls_are_no_candidates():
    from fusion_analysis import candidates

    better = {"CSAD uniform": [(3, 2, 4)], "SCFF": [(2, 1, 3)], "CSAD": [(1, 0, 2)], "StreamGates": [(0, -1, 1)]}
    assert candidates(gains(**better)) == ["SCFF", "CSAD"]


def test_the_fields_trainers_are_no_candidates():
    from fusion_analysis import candidates

    assert candidates(gains(HSCNet=[(3, 2, 4)], SCFF=[(1, 0, 2)], CSAD=[(0, -1, 1)])) == ["SCFF", "CSAD"]


def test_who_lacks_a_regime_is_no_candidate():
    from fusion_analysis import candidates

    table = gains(SCFF=[(1, 0, 2), (1, 0, 2)], CSAD=[(9, 8, 9)], StreamGates=[(0, -1, 1), (0, -1, 1)])
    assert candidates(table) == ["SCFF", "StreamGates"]


@pytest.mark.parametrize(
    "regimes, passing",
    [
        ([(1, 0.1, 2), (1, 0.1, 2), (0, -1, 1), (-0.5, -2, 1)], True),
        ([(1, 0.1, 2), (1, 0.1, 2), (0, -1, 1), (-0.6, -2, 1)], False),
        ([(1, 0.1, 2), (1, -0.1, 2), (0, -1, 1), (0, -1, 1)], False),
    ],
)
def test_the_rule(regimes, passing):
    from fusion_analysis import passes

    assert passes(gains(SCFF=regimes), "SCFF") is passing


def test_who_was_not_measured_in_a_regime_does_not_pass():
    from fusion_analysis import passes

    table = gains(SCFF=[(1, 0.1, 2), (1, 0.1, 2)], CSAD=[(1, 0.1, 2), (1, 0.1, 2), (0, -1, 1)])
    assert passes(table, "CSAD") and not passes(table, "SCFF")


@pytest.mark.parametrize(
    "streams, stock, said",
    [
        (72.0, 70.0, "MultiStream over nnU-Net"),
        (70.0, 72.0, "nnU-Net over MultiStream"),
        (70.0, 70.0, "neither MultiStream nor nnU-Net over the other"),
    ],
)
def test_plain_streams_and_stock_are_compared_by_the_same_rule(streams, stock, said):
    from fusion_analysis import recommended

    rng = np.random.default_rng(0)
    rows = [
        (regime, 1, 0, method, 1000, f"case{case}", dice + rng.normal())
        for regime in ("aligned", "shifted")
        for method, dice in (("MultiStream", streams), ("nnU-Net", stock))
        for case in range(60)
    ]
    assert recommended(pd.DataFrame(rows, columns=results([]).columns)) == said


def test_lengths_are_not_mixed():
    from fusion_analysis import differences

    longer = results([2.0]).assign(steps=3000)
    with pytest.raises(ValueError, match="1000, 3000"):
        differences(pd.concat([results([2.0]), longer], ignore_index=True))


def test_stars_are_of_p_after_holm():
    from fusion_analysis import differences, report

    table = differences(results([2.0, 3.0]))
    assert table["p_holm"].tolist() == table["p"].tolist()  # one comparison
    assert re.search(r"\| SCFF \| \+2\.\d\* \[", report(results([2.0, 3.0]), [0, 1], []))
    many = pd.concat([results([0.25], 20).assign(regime=str(index)) for index in range(5)])
    assert (differences(many)["p_holm"] >= differences(many)["p"]).all()


def test_results_read_from_files_are_those_read_from_the_table(tmp_path):
    from fusion_analysis import read_results, report, write_table

    for method, dice in (("MultiStream", [60.0, 70.0]), ("SCFF", [61.5, 70.5])):
        of_training = {"regime": "few", "seed": 1, "fold": 0, "method": method, "steps": 1000}
        file = tmp_path / "results" / "few" / f"{method}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(of_training | {"dice": {"a": dice[0], "b": dice[1]}}))
    table = read_results(tmp_path)
    write_table(table, tmp_path / "table.csv")
    pd.testing.assert_frame_equal(read_results(tmp_path / "table.csv"), table)
    text = report(table, [1], [11])
    assert "| SCFF | +1.0 [" in text and "Candidates: SCFF." in text


def test_a_training_is_summarised_by_its_cost_and_its_attention(tmp_path):
    from fusion_analysis import read_trainings

    file = tmp_path / "results" / "few" / "SCFF.json"
    file.parent.mkdir(parents=True)
    result = {"regime": "few", "seed": 1, "fold": 0, "method": "SCFF", "steps": 1000, "dice": {"a": 60, "b": 80}}
    end = {"peaks_in_a_corner": [[0, 1], [0, 0]], "foreground_mass": [[1, 2], [3, 8]], "correlation": 0.4}
    cost = {"training_seconds": 9.0, "parameters": 7}
    for attention in (end, {"start": {"correlation": 0.1}, "end": end, "alive": True}):  # as the first trainings had it
        file.write_text(json.dumps(result | cost | {"attention": attention, "losses": [0.5, 0.25]}))
        row = read_trainings(tmp_path).iloc[0]
        assert (row["Dice"], row["corners"], row["foreground_mass"], row["correlation"]) == (70, 0.25, 2.5, 0.4)
        assert row["losses"] == "0.500 0.250"
    assert row["alive"] and row["correlation_at_start"] == 0.1


def test_the_figure_has_a_panel_per_regime_and_leaves_an_empty_group_out(tmp_path):
    from fusion_analysis import differences
    from fusion_figure import draw

    draw({"choice": differences(results([2.0])), "confirmation": pd.DataFrame()}, tmp_path / "gains.png")
    assert (tmp_path / "gains.png").stat().st_size > 1000
