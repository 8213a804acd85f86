"""Which modality counted, of the demo's new cases: Shapley values of their Dice, which cost no further prediction.

With two streams, the predictions with both and without each are all there is to predict: without any stream a model
that knows absent streams predicts nothing, whose Dice is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nnunet_xmodal.demo.conditions import Condition
from nnunet_xmodal.evaluation.shapley import shapley_values
from nnunet_xmodal.evaluation.statistics import interval_of_mean

if TYPE_CHECKING:
    import pandas as pd


def shares_of_dice(dice: pd.DataFrame, conditions: Sequence[Condition], trainer: str) -> pd.DataFrame | None:
    """Return what each of two streams brings to the Dice of every case and label; None for other numbers of streams.

    Args:
        dice: columns trainer, condition, case, label, Dice.
        conditions: complete, then without each stream.
        trainer: one whose model is given the streams that are left.

    Returns:
        Columns case, label, and one per stream, in points of Dice as fractions.
    """
    if len(conditions) != 3:
        return None
    of_trainer = dice[dice["trainer"] == trainer]
    # a table with the rows and columns that are NaN: cases that have no lesion, and nothing predicted
    by_case = of_trainer.groupby(["case", "label", "condition"], sort=False)["Dice"].mean().unstack(sort=False)
    by_case = by_case.reindex(columns=[str(condition) for condition in conditions])
    complete, without_first, without_second = (by_case[str(condition)].to_numpy() for condition in conditions)
    values = shapley_values(np.stack([np.zeros_like(complete), without_second, without_first, complete]))
    table = by_case.index.to_frame(index=False)
    for condition, of_stream in zip(conditions[1:], values):
        table[condition.without] = of_stream  # what the other condition lacks is this stream
    return table


def shares_sentence(shares: pd.DataFrame, trainer: str) -> str:
    """Return the means over the cases with their intervals, in points of Dice: a line of results.md per label."""
    lines = []
    for label, rows in shares.groupby("label", sort=False):
        parts = []
        for stream in shares.columns[2:]:
            low, high = (100 * end for end in interval_of_mean(rows[stream]))
            interval = "" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]"
            parts.append(f"{stream} {100 * rows[stream].mean():.1f}{interval}")
        lines.append(f"- {trainer}, {label}: {', '.join(parts)}")
    return "\n".join(lines)
