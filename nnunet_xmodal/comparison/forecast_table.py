"""How well a forecast of quality ranks cases: `uncertainty.csv` beside predictions, against the Dice of the cases."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, rankdata, spearmanr

from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.statistics import RESAMPLES
from nnunet_xmodal.files.csv_cells import as_written
from nnunet_xmodal.files.tables import decimal, read_columns

FEWEST_UNITS = 6
"""Below these there is no interval and no p-value, as in the comparisons of models."""

_PATTERN, _FORECAST = "uncertainty*.csv", "forecast_dice"
COLUMNS = ("model", "label", "n", "spearman", "low", "high", "p", "mean_absolute_error")


def forecast_table(models: Sequence[ModelResults], cases: pd.DataFrame) -> pd.DataFrame | None:
    """Return per model and label Spearman's ρ of forecast and Dice with its bootstrap 95 % interval, and their error.

    Args:
        models: of which those with a table of `nnUNetXModal_predict --uncertainty` beside their label maps count.
        cases: of the comparison, one row per model × fold × case × label, with the column Dice.

    Returns:
        `COLUMNS`; the unit is the subject, whose cases are averaged. None where no model has such a table.

    Raises:
        XModalError: for a table that cannot be read.
    """
    rows = []
    for model in models:
        forecasts = read_forecasts(model.folder)
        if not forecasts:
            continue
        of_model = cases[cases["model"] == model.name]
        keys = list(zip(of_model["case"], of_model["label"]))
        known = of_model.assign(forecast=[forecasts.get(key, np.nan) for key in keys])
        for label, of_label in known.groupby("label", sort=False):
            defined = of_label.dropna(subset=["Dice", "forecast"])
            units = defined.groupby("subject", sort=False)[["forecast", "Dice"]].mean().to_numpy(float)
            rows.append({"model": model.name, "label": label, **rank_agreement(units)})
    return pd.DataFrame(rows, columns=list(COLUMNS)) if rows else None


def read_forecasts(folder: Path) -> dict[tuple[str, str], float]:
    """Return (case, label) → forecast of its Dice, from the tables in a folder of predictions; NaN where empty.

    Raises:
        XModalError: for a table that cannot be read, or holds something else than numbers.
    """
    found = {}
    for file in sorted(folder.glob(_PATTERN)):
        for line, cells in read_columns(file, ["case", "label", _FORECAST]):
            try:
                number = decimal(cells[_FORECAST] or "nan")
            except ValueError as error:
                said = cells[_FORECAST]
                raise XModalError(f"line {line} of {file} has the forecast {said}: predict again.") from error
            found[as_written(cells["case"]), as_written(cells["label"])] = number
    return found


def rank_agreement(units: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return n, Spearman's ρ, its interval and p, and the mean absolute error of forecasts.

    Args:
        units: `(n, 2)`, forecast and Dice.
        seed: of the bootstrap: pairs are drawn, percentiles taken.
    """
    n, nan = len(units), float("nan")
    numbers = {"n": n, "spearman": nan, "low": nan, "high": nan, "p": nan}
    numbers["mean_absolute_error"] = float(np.abs(units[:, 0] - units[:, 1]).mean()) if n else nan
    if n < 3 or (units == units[0]).all(0).any():  # ranks that are all the same have no correlation
        return numbers
    forecast, dice = units.T
    result = spearmanr(forecast, dice)
    numbers["spearman"] = float(result.statistic)
    if n >= FEWEST_UNITS:
        resampled = bootstrap(
            (forecast, dice),
            _rho,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=1000,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
        numbers["low"], numbers["high"] = map(float, resampled.confidence_interval)
        numbers["p"] = float(result.pvalue)
    return numbers


def _rho(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """Spearman's ρ along an axis; 0 where one side has a single value."""
    x, y = (rankdata(values, axis=axis) for values in (x, y))
    x, y = (values - values.mean(axis, keepdims=True) for values in (x, y))
    size = np.sqrt((x**2).sum(axis) * (y**2).sum(axis))
    return np.divide((x * y).sum(axis), size, out=np.zeros_like(size), where=size > 0)
