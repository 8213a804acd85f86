"""results.md of the demo: Dice with all modalities and without each, trainers side by side."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_xmodal.comparison.report.tables import markdown_table
from nnunet_xmodal.demo.settings import Demo, read_json
from nnunet_xmodal.evaluation.statistics import compare_pair
from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.labels import foreground, name_of_key

MEAN = "mean of labels"


def validation_dice(demo: Demo) -> pd.DataFrame:
    """Return the Dice of the cases that the trained folds validated on: trainer, condition, case, label, Dice."""
    labels = foreground(demo.dataset_json)
    rows = []
    for trainer in demo.trainers:
        for fold in range(demo.folds):
            summary = read_json(demo.fold(trainer, fold) / "validation" / "summary.json")
            for case in summary["metric_per_case"]:
                name = Path(case["prediction_file"]).name
                for key, metrics in case["metrics"].items():
                    rows.append((trainer, "validation", name, name_of_key(key, labels), metrics["Dice"]))
    return pd.DataFrame(rows, columns=["trainer", "condition", "case", "label", "Dice"])


def dice_table(dice: pd.DataFrame, trainers: Sequence[str]) -> str:
    """Return mean ± standard deviation over cases, in percent, per condition and label, in markdown.

    From the second trainer on with the mean difference to the first one on the same cases and its 95 % interval, by
    bootstrap of the cases.

    Args:
        dice: columns trainer, condition, case, label, Dice.
        trainers: in the order of the columns.
    """
    labels = list(dict.fromkeys(dice["label"]))
    header = ["cases", "label", *trainers, *(f"{trainer} − {trainers[0]}" for trainer in trainers[1:])]
    rows = []
    for condition, of_condition in dice.groupby("condition", sort=False):
        by_label = of_condition.pivot_table(index="case", columns=["label", "trainer"], values="Dice", dropna=False)
        for label in [*labels, *([MEAN] if len(labels) > 1 else [])]:
            values = [_of_label(by_label, label, trainer) for trainer in trainers]
            cells = [
                f"{100 * np.nanmean(v):.1f} ± {100 * np.nanstd(v, ddof=1):.1f}" if len(v) > 1 else f"{100 * v[0]:.1f}"
                for v in values
            ]
            differences = [_difference(other, values[0]) for other in values[1:]]
            rows.append([f"{condition} ({len(by_label)})", label, *cells, *differences])
    return markdown_table(header, rows, text_columns=2)


def _of_label(by_label: pd.DataFrame, label: str, trainer: str) -> np.ndarray:
    of_trainer = by_label.xs(trainer, axis=1, level="trainer")
    return (of_trainer.mean(axis=1) if label == MEAN else of_trainer[label]).to_numpy()


def _difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    pair = compare_pair(100 * ours, 100 * theirs, "higher")
    interval = "" if np.isnan(pair.mean_low) else f" [{pair.mean_low:+.1f}, {pair.mean_high:+.1f}]"
    return f"{pair.mean_difference:+.1f}{interval}"


def write_results(demo: Demo, table: str, scores: Iterable[str], shares: Sequence[str] = ()) -> None:
    """Write results.md.

    Args:
        table: see `dice_table`.
        scores: paragraphs of the cross-validation.
        shares: lines on which modality counted, see `shares.shares_sentence`.
    """
    counted = [
        "## Which modality counted",
        "Shapley values of the Dice of the new cases, in points that add up to it; mean with its 95 % interval.",
        "\n".join(shares),
    ]
    text = "\n\n".join(
        [
            "# nnUNetXModal_demo",
            f"On {demo.data}: configuration {demo.configuration} with at most {demo.features} channels on the first "
            f"level, {demo.folds} folds, {demo.epochs} epochs of {demo.iterations} steps with {demo.batch_size} "
            "samples. Such short trainings show what the trainers do, not how good they can be.",
            "![new cases](cases.png)",
            "## With all modalities and without one",
            "Dice in percent, mean ± standard deviation over cases; difference with its 95 % bootstrap interval over "
            "the same cases. New cases are predicted by all folds together, validation cases by the fold that did not "
            "train on them. Trainers with stream dropout leave a missing modality out, others get its mean.",
            table,
            *(counted if shares else []),
            "## Cross-validation",
            *scores,
            "More in [the report](report/report.html).",
        ]
    )

    def write(name: str) -> None:
        Path(name).write_text(text + "\n", encoding="utf-8")

    write_atomically(demo.folder / "results.md", write)
