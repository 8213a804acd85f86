"""One table of all methods by their Dice, as papers print it: counterpart of the CSAD paper's Table III."""

import pandas as pd
from fusion_analysis import SIGNIFICANT, differences, interval_as_text, over_trainings
from fusion_methods import BASELINE

TRAINING = ["regime", "seed", "fold", "method"]


def ranking(results: pd.DataFrame, trainings: pd.DataFrame) -> pd.DataFrame:
    """Return a row per method, the best first.

    Args:
        results: Dice of every case, of one regime.
        trainings: as of `read_trainings`, of the same trainings.

    Columns: method, trainings, Dice and SD (over cases), folds (mean of every training, as text), gain on the baseline
    with low and high (95 %, over trainings), p_holm (Wilcoxon over cases, over all methods), parameters, seconds (of
    training, the median).

    Raises:
        ValueError: for several regimes.
    """
    if results["regime"].nunique() != 1:
        raise ValueError(f"a ranking is of one regime, and there are {', '.join(results['regime'].unique())}.")
    gains = differences(results)
    table = results.groupby("method")["Dice"].agg(Dice="mean", SD="std")
    means = results.groupby(TRAINING)["Dice"].mean().groupby("method")
    table["trainings"] = means.size()
    table["folds"] = means.agg(lambda values: " ".join(f"{value:.1f}" for value in values))
    cost = trainings.groupby("method")
    table["parameters"], table["seconds"] = cost["parameters"].first(), cost["training_seconds"].median()
    table = table.join(over_trainings(gains).set_index("method")[["gain", "low", "high"]])
    table = table.join(gains.set_index("method")["p_holm"])
    return table.sort_values("Dice", ascending=False).reset_index()


def ranking_as_markdown(table: pd.DataFrame) -> str:
    """Return the ranking with seconds as multiples of the baseline's."""
    own = table.loc[table["method"] == BASELINE, "seconds"].item()
    lines = [
        f"| | method | Dice, % | trainings | − {BASELINE} [95 % over trainings] | parameters | time |",
        "|--:|---|--:|---|--:|--:|--:|",
    ]
    for place, row in enumerate(table.itertuples(), start=1):
        gain = "–"
        if row.method != BASELINE:
            gain = f"{row.gain:+.1f}{'*' * (row.p_holm < SIGNIFICANT)} [{interval_as_text(row.low, row.high)}]"
        lines.append(
            f"| {place} | {row.method} | {row.Dice:.1f} ± {row.SD:.1f} | {row.folds} | {gain} "
            f"| {row.parameters:,.0f} | {row.seconds / own:.1f} |"
        )
    return "\n".join(lines)
