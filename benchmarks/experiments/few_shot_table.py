"""Tables of few-shot trials, counterparts of the CRTPNet paper's Tables 1 and 2, and their statistics.

    python benchmarks/experiments/few_shot_table.py trial.jsonl -o few_shot_trials.csv
    python benchmarks/experiments/few_shot_table.py few_shot_trials.csv

Files are those of `few_shot_trial.py`, or what `-o` has written: a row per trained fold, scan and label. For every
dataset, size and length there is Dice by the protocol per label, mean ± SD over scans; Dice in every way of asking; and
every trainer against the first one that is named with `--first`: the mean over scans of the difference, one value per
scan (its mean over labels), Wilcoxon's p after Holm over the trainers of the table, and Student's 95 % interval over
folds.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from few_shot_trial import WAYS
from scipy import stats

from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.evaluation.statistics import compare_pair, holm

TASK = ["dataset", "size", "steps"]
SCAN = ["fold", "case"]


def read_trials(files: list[Path]) -> pd.DataFrame:
    """Return a row per trained fold, scan and label: what was trained, cpu (seconds), and Dice in % per way."""
    return pd.concat([pd.read_csv(file) if file.suffix == ".csv" else _of_lines(file) for file in files])


def _of_lines(file: Path) -> pd.DataFrame:
    rows = []
    for trial in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        trained = {name: trial[name] for name in ("trainer", "dataset", "fold", "steps", "cpu")}
        trained["size"] = "×".join(map(str, trial["size"]))
        for scan, case in enumerate(trial["cases"]):
            for number, label in enumerate(trial["labels"]):
                dice = {way: trial[way][scan][number] for way in WAYS}
                rows.append({**trained, "case": case, "label": label, **dice})
    return pd.DataFrame(rows)


def by_protocol(results: pd.DataFrame) -> str:
    """Return the table of one task by the protocol, the best first, as Markdown."""
    labels = list(dict.fromkeys(results["label"]))
    lines = [f"| | {' | '.join(labels)} | mean | folds | s |", "|---|" + "--:|" * (len(labels) + 1) + "---|--:|"]
    for trainer in in_order(results):
        of = results[results["trainer"] == trainer]
        cells = [f"{values.mean():.1f} ± {values.std():.1f}" for _, values in _by_label(of, labels)]
        folds = of.groupby("fold")["protocol"].mean()
        seconds = of.groupby("fold")["cpu"].first().median()
        means = " ".join(f"{value:.1f}" for value in folds)
        lines.append(
            f"| `{trainer}` | {' | '.join(cells)} | **{of['protocol'].mean():.1f}** "
            f"| {', '.join(map(str, folds.index))}: {means} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def by_way(results: pd.DataFrame) -> str:
    """Return the table of one task in every way of asking but the protocol, as Markdown."""
    ways = WAYS[1:]
    lines = [f"| | {' | '.join(ways)} |", "|---|" + "--:|" * len(ways)]
    for trainer in in_order(results):
        means = results[results["trainer"] == trainer][list(ways)].mean()
        lines.append(f"| `{trainer}` | {' | '.join(f'{value:.1f}' for value in means)} |")
    return "\n".join(lines)


def against(results: pd.DataFrame, first: str, way: str) -> pd.DataFrame:
    """Compare all trainers of one task with one of them, over the folds that both have.

    Columns: trainer, scans, ahead (scans in which `first` is), gain (of `first`, in points), low and high (95 %,
    Student's, over folds), p (Wilcoxon, over scans) and p_holm.
    """
    wide = results.groupby([*SCAN, "trainer"])[way].mean().unstack("trainer")
    rows = []
    for trainer in wide.columns.drop(first):
        pairs = wide[[first, trainer]].dropna()
        gains = pairs[first] - pairs[trainer]
        folds = gains.groupby("fold").mean()
        half = stats.t.ppf(0.975, len(folds) - 1) * folds.sem() if len(folds) > 1 else np.nan
        rows.append(
            {
                "trainer": trainer,
                "scans": len(gains),
                "ahead": int((gains > 0).sum()),
                "gain": gains.mean(),
                "low": folds.mean() - half,
                "high": folds.mean() + half,
                "p": compare_pair(pairs[first], pairs[trainer], "higher").wilcoxon_p,
            }
        )
    table = pd.DataFrame(rows).sort_values("gain", ignore_index=True)
    return table.assign(p_holm=holm(table["p"].tolist()))


def in_order(results: pd.DataFrame) -> list[str]:
    """Return the trainers, the best by the protocol first."""
    return list(results.groupby("trainer")["protocol"].mean().sort_values(ascending=False).index)


def _by_label(results: pd.DataFrame, labels: list[str]) -> list[tuple[str, pd.Series]]:
    return [(label, results.loc[results["label"] == label, "protocol"]) for label in labels]


@one_sentence_errors
def main() -> None:
    """Print the tables; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="trials, .jsonl or .csv")
    parser.add_argument("-o", type=Path, help="file for all of them as CSV")
    parser.add_argument("--first", default="nnUNetTrainerCRTPLite", help="trainer that others are compared with")
    args = parser.parse_args()
    results = read_trials(args.files).sort_values([*TASK, "trainer", *SCAN], kind="stable")
    if args.o:
        results.to_csv(args.o, index=False)
    for task, of_task in results.groupby(TASK):
        print("\n## " + ", ".join(map(str, task)) + f" steps\n\n{by_protocol(of_task)}\n\n{by_way(of_task)}")
        if args.first not in set(of_task["trainer"]):
            print(f"\n{args.first} has no trial here, with which the others could be compared.")
            continue
        for way in ("protocol", "best", "position"):
            compared = against(of_task, args.first, way).to_string(index=False, float_format="{:.2g}".format)
            print(f"\n{args.first}, {way}:\n{compared}")


if __name__ == "__main__":
    main()
