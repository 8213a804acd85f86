"""From results of the fusion study to its tables and its verdict.

The unit within a regime is the validation case, paired by case, seed and fold; the interval is that of
`nnUNetXModal_compare`, a bootstrap over cases. It knows nothing of how much a second training of the same method would
differ: that is what the row of the baseline trained again is for, and the last table, where the unit is the training.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from fusion_methods import AGAIN, BASELINE, CONTROLS, METHODS, STOCK
from fusion_phantoms import REGIMES
from scipy import stats

from nnunet_xmodal.evaluation.statistics import compare_pair, holm

TRAINING = ["regime", "seed", "fold"]
COLUMNS = [*TRAINING, "method", "steps", "case", "Dice"]
MARGIN = 0.5
"""Points of Dice that a default may be behind in any regime."""
REGIMES_AHEAD = 2
"""Regimes in which a default has to be ahead, interval and all."""
CANDIDATES = 2
"""Methods that are confirmed on fresh seeds."""
SIGNIFICANT = 0.05


def read_results(root: Path) -> pd.DataFrame:
    """Return `COLUMNS`, a row per case of every finished training below `root/results`; Dice in percent.

    If `root` is a file, read it as a table that `write_table` wrote.
    """
    if root.is_file():
        return pd.read_csv(root)
    rows = []
    for file in _result_files(root):
        result = json.loads(file.read_text())
        of_training = [result[name] for name in (*TRAINING, "method", "steps")]
        rows += [(*of_training, case, dice) for case, dice in result["dice"].items()]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"Dice": float})


def _result_files(root: Path) -> list[Path]:
    """Of all regimes, those of the phantoms first."""
    others = sorted({folder.name for folder in (root / "results").glob("*")} - set(REGIMES))
    return [file for regime in (*REGIMES, *others) for file in sorted((root / "results" / regime).glob("*.json"))]


def read_trainings(root: Path) -> pd.DataFrame:
    """Return a row per finished training below `root/results`: cost, and where the streams' attention ended.

    Columns: regime, seed, fold, method, steps, Dice (mean over cases), training_seconds, parameters, and of attention
    maps at the end of training: corners (share that peaks in one), foreground_mass (median, 1 = uniform), correlation
    (of the pairs), correlation_at_start, alive; NaN for one encoder. And losses, of the training by epoch, which say
    whether it was still falling. If `root` is a table of Dice, read that of its trainings, which lies beside it.
    """
    if root.is_file():
        return pd.read_csv(root.with_name(f"{root.stem}_trainings.csv"))
    rows = []
    for file in _result_files(root):
        result = json.loads(file.read_text())
        attention, losses = result["attention"], result.get("losses", [])
        row = {name: result[name] for name in (*TRAINING, "method", "steps")}
        row["Dice"] = float(np.mean(list(result["dice"].values())))
        row |= {name: result[name] for name in ("training_seconds", "parameters")}
        row["losses"] = " ".join(f"{loss:.3f}" for loss in losses)
        if attention:
            end = attention.get("end", attention)  # results of the first trainings have no more than the end
            row["corners"] = float(np.mean(end["peaks_in_a_corner"]))
            row["foreground_mass"] = float(np.median(end["foreground_mass"]))
            row["correlation"] = end["correlation"]
            row["correlation_at_start"] = attention.get("start", {}).get("correlation")
            row["alive"] = attention.get("alive")
        rows.append(row)
    return pd.DataFrame(rows)


def write_table(results: pd.DataFrame, file: Path) -> None:
    """Write per-case results as CSV, two decimals each."""
    results.to_csv(file, index=False, float_format="%.2f")


def differences(results: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """Return per regime and method what it gains on the baseline, over the trainings that both have.

    Columns: regime, method, trainings, Dice, baseline_Dice, gain, low, high (95 %), p (Wilcoxon) and p_holm (over all
    regimes and methods), and per_training, the list of gains by training.

    Raises:
        ValueError: for trainings of several lengths.
    """
    lengths = sorted(set(results["steps"].tolist()))
    if len(lengths) > 1:
        raise ValueError(f"lengths are not to be mixed, and there are {', '.join(map(str, lengths))} steps.")
    rows = []
    for regime, of_regime in results.groupby("regime", sort=False):
        wide = of_regime.pivot(index=["seed", "fold", "case"], columns="method", values="Dice")
        for method in _in_order(wide.columns):
            if method == baseline or baseline not in wide:
                continue
            pairs = wide[[method, baseline]].dropna()
            if pairs.empty:
                continue
            compared = compare_pair(pairs[method], pairs[baseline], "higher")
            per_training = (pairs[method] - pairs[baseline]).groupby(level=["seed", "fold"]).mean()
            rows.append(
                {
                    "regime": regime,
                    "method": method,
                    "trainings": len(per_training),
                    "Dice": pairs[method].mean(),
                    "baseline_Dice": pairs[baseline].mean(),
                    "gain": compared.mean_difference,
                    "low": compared.mean_low,
                    "high": compared.mean_high,
                    "p": compared.wilcoxon_p,
                    "per_training": per_training.tolist(),
                }
            )
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"])) if rows else table


def over_trainings(gains: pd.DataFrame) -> pd.DataFrame:
    """Return per method the mean gain over all its trainings, the unit here, and its interval by Student's t.

    Columns: method, trainings, gain, low, high, ahead (trainings), sorted by gain.
    """
    rows = []
    for method, of_method in gains.groupby("method", sort=False):
        values = np.concatenate(of_method["per_training"].map(np.asarray).tolist())
        low = high = float("nan")
        if len(values) > 1 and values.std() > 0:
            low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        rows.append((method, len(values), values.mean(), low, high, int((values > 0).sum())))
    table = pd.DataFrame(rows, columns=["method", "trainings", "gain", "low", "high", "ahead"])
    return table.sort_values("gain", ascending=False, ignore_index=True)


def training_noise(gains: pd.DataFrame) -> float:
    """Return by how much the means of two trainings of the baseline differ, root mean square; NaN if never repeated."""
    again = gains.loc[gains["method"] == AGAIN, "per_training"]
    return float(np.sqrt(np.mean(np.square(np.concatenate(again.tolist()))))) if len(again) else float("nan")


def with_training_noise(gains: pd.DataFrame, noise: float) -> pd.DataFrame:
    """Return the gains with intervals as wide as the bootstrap's half width and `noise` per training make together."""
    half = np.sqrt(((gains["high"] - gains["low"]) / 2) ** 2 + (1.96 * noise) ** 2 / gains["trainings"])
    return gains.assign(low=gains["gain"] - half, high=gains["gain"] + half)


def candidates(gains: pd.DataFrame, number: int = CANDIDATES) -> list[str]:
    """Return the methods with the highest mean gain over all trainings; no controls, none that lacks a regime, none of
    the field's.
    """
    regimes = gains.groupby("method")["regime"].nunique()
    ranked = [method for method in over_trainings(gains)["method"] if regimes[method] == regimes.max()]
    return [method for method in ranked if method in METHODS and method not in CONTROLS][:number]


def passes(gains: pd.DataFrame, method: str) -> bool:
    """Tell whether the rule makes a method a default: ahead in enough regimes, behind by more than MARGIN in none.

    Who was not measured in a regime does not pass: nobody knows that it is not behind there.
    """
    of_method = gains[gains["method"] == method]
    measured = of_method["regime"].nunique() == gains["regime"].nunique()
    ahead = (of_method["low"] > 0).sum() >= REGIMES_AHEAD
    return bool(measured and ahead and (of_method["gain"] >= -MARGIN).all())


def recommended(results: pd.DataFrame) -> str:
    """Say which of plain streams and stock nnU-Net is ahead of the other by the rule, or that neither is."""
    streams, stock = differences(results, STOCK), differences(results)
    if not streams.empty and passes(streams, BASELINE):
        return f"{BASELINE} over {STOCK}"
    return f"{STOCK} over {BASELINE}" if passes(stock, STOCK) else f"neither {BASELINE} nor {STOCK} over the other"


def report(results: pd.DataFrame, choose: Sequence[int], confirm: Sequence[int]) -> str:
    """Return everything in Markdown: the choice, the confirmation, and what follows."""
    parts, noise = [], training_noise(differences(results))
    if np.isfinite(noise):
        pairs = np.ceil((1.96 * noise) ** 2)
        parts.append(
            f"Two trainings of {BASELINE} differ by {noise:.1f} points (root mean square over the pairs). For "
            f"an interval of ±1 point in one regime that alone takes {pairs:.0f} pairs of trainings."
        )
    for title, seeds in (("Choice", choose), ("Confirmation", confirm)):
        of_seeds = results[results["seed"].isin(seeds)]
        gains = differences(of_seeds)
        if gains.empty:
            continue
        means = ", ".join(
            f"{regime} {of_regime['Dice'].mean():.1f}"
            for regime, of_regime in of_seeds[of_seeds["method"] == BASELINE].groupby("regime", sort=False)
        )
        parts += [f"## {title}: seeds {', '.join(map(str, seeds))}", f"Dice of {BASELINE}: {means}."]
        parts += [_markdown(gains), _markdown_of_trainings(over_trainings(gains))]
        if seeds is choose:
            parts.append(f"Candidates: {', '.join(candidates(gains))}.")
            continue
        parts.append(f"By the rule: {_verdicts(gains)}; {recommended(of_seeds)}.")
        if np.isfinite(noise):
            parts.append(
                f"With the noise of trainings in the intervals: {_verdicts(with_training_noise(gains, noise))}."
            )
    parts += ["## All seeds, over trainings", _markdown_of_trainings(over_trainings(differences(results)))]
    return "\n\n".join(parts)


def _verdicts(gains: pd.DataFrame) -> str:
    """Say of every method but the controls whether it passes."""
    methods = [method for method in gains["method"].unique() if method not in CONTROLS]
    return "; ".join(f"{method} {'passes' if passes(gains, method) else 'does not pass'}" for method in methods)


def _in_order(methods: Sequence[str]) -> list[str]:
    known = list(METHODS)
    return sorted(methods, key=lambda method: known.index(method) if method in known else len(known))


def _markdown(gains: pd.DataFrame) -> str:
    regimes = list(gains["regime"].unique())
    lines = [f"| method | {' | '.join(regimes)} |", f"|---|{'--:|' * len(regimes)}"]
    for method in _in_order(gains["method"].unique()):
        cells = []
        for regime in regimes:
            row = gains[(gains["method"] == method) & (gains["regime"] == regime)]
            cells.append(
                "".join(
                    f"{r.gain:+.1f}{'*' * (r.p_holm < SIGNIFICANT)} [{r.low:+.1f}, {r.high:+.1f}] ({r.trainings})"
                    for r in row.itertuples()
                )
            )
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _markdown_of_trainings(table: pd.DataFrame) -> str:
    lines = ["| method | trainings | mean gain | 95 % over trainings | ahead |", "|---|--:|--:|--:|--:|"]
    lines += [
        f"| {r.method} | {r.trainings} | {r.gain:+.1f} | {interval_as_text(r.low, r.high)} | {r.ahead} |"
        for r in table.itertuples()
    ]
    return "\n".join(lines)


def interval_as_text(low: float, high: float) -> str:
    """Return an interval of gains in points; a dash where there is none."""
    return "–" if np.isnan(low) else f"{low:+.1f} … {high:+.1f}"
