"""Are two models different? Paired comparisons of models, per label and metric.

The unit is the subject: the case where nobody grouped them, else the mean of the subject's cases, because two scans of
one person are not two independent observations. Units are pooled over folds and paired over models. A case that is
undefined for one model of a pair is left out for the other too, before cases are averaged: both are judged by the same.

- Two models: Wilcoxon's signed-rank test (Biometrics Bulletin 1, 1945) as in `scipy.stats.wilcoxon`, zeros left out;
  exact up to 50 pairs that differ, also with ties, where scipy takes a normal distribution for few of them; corrected
  by Holm (Scandinavian Journal of Statistics 6, 1979) over all pairs of models within one label and metric.
- Three models and more: Friedman's test (JASA 32, 1937) and the mean ranks that it is about, as Demšar (JMLR 7, 2006)
  advises.
- Intervals: bootstrap of the units, 95 %; BCa (Efron, JASA 82, 1987) for the mean, percentiles for the median, whose
  jackknife has hardly two different values and so cannot serve BCa.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, friedmanchisquare, rankdata, wilcoxon

from nnunet_xmodal.evaluation.metrics import Direction, Metric

RESAMPLES = 9999
FEWEST_PAIRS = 6
"""Of five pairs that all go one way the two-sided p-value is 2/2⁵ = 0.0625: no result could be significant."""

COLUMNS = (
    "label", "metric", "test", "model_a", "model_b", "n",
    "mean_difference", "mean_low", "mean_high", "median_difference", "median_low", "median_high",
    "statistic", "p", "p_holm", "wins", "ties", "losses", "note",
)  # fmt: skip
"""Of `compare_all`."""

_EXACT = 50  # pairs that differ up to which p is exact, as in scipy, but with ties and zeros too
_TOO_FEW = f"no p-value: fewer than {FEWEST_PAIRS} pairs"
_BATCH = 1_000_000  # numbers per batch of resamples: a few MB, whatever the number of units
_NAN = float("nan")


@dataclass(frozen=True)
class PairComparison:
    """Two models on the same units; differences are first minus second, whichever way is better.

    Attributes:
        n: pairs of which both values are defined.
        mean_low, mean_high, median_low, median_high: bootstrap 95 % intervals of the two differences.
        statistic, wilcoxon_p: of the signed-rank test, two-sided; NaN for fewer than `FEWEST_PAIRS` pairs.
        wins, ties, losses: units on which the first model is better, equal, worse.
        note: what was left out, and why.
    """

    n: int
    mean_difference: float
    mean_low: float
    mean_high: float
    median_difference: float
    median_low: float
    median_high: float
    statistic: float
    wilcoxon_p: float
    wins: int
    ties: int
    losses: int
    note: str


@dataclass(frozen=True)
class CaseValues:
    """One metric of one label, ready to be paired.

    Attributes:
        values: (subject, case) × model, NaN where undefined and where not predicted.
        subjects: model → the subjects that it has predicted.
    """

    values: pd.DataFrame
    subjects: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, cases: pd.DataFrame, metric: str) -> "CaseValues":
        """Make it from rows of one label. A case that several folds predicted, as in a test set, is their mean."""
        values = cases.groupby(["subject", "case", "model"], sort=False)[metric].mean().unstack("model")
        return cls(values, {model: frozenset(subjects) for model, subjects in cases.groupby("model")["subject"]})

    def units(self, models: Sequence[str]) -> tuple[pd.DataFrame, int]:
        """Return the numbers that a comparison of some models is made of.

        Returns:
            subject × model: the mean over those of a subject's cases that are defined for all these models, NaN if none
            is; and the number of subjects left out because some of the models have not predicted them.
        """
        predicted = [self.subjects.get(model, frozenset()) for model in models]
        shared, anyone = frozenset.intersection(*predicted), frozenset.union(*predicted)
        values = self.values.reindex(columns=list(models)).to_numpy(dtype=float, copy=True)
        values[np.isnan(values).any(axis=1)] = np.nan
        subjects = self.values.index.get_level_values("subject")
        units = pd.DataFrame(values, subjects, list(models))
        if not subjects.is_unique:
            units = units.groupby(level="subject", sort=False).mean()
        return units[units.index.isin(shared)], len(anyone) - len(shared)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return Holm's step-down adjusted p-values in the given order; NaN stays NaN and does not count as a test."""
    p = np.asarray(p_values, dtype=float)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def compare_pair(
    a: np.ndarray | Sequence[float], b: np.ndarray | Sequence[float], better: Direction, seed: int = 0
) -> PairComparison:
    """Compare two models on paired units.

    Args:
        a, b: (n,) values of the first and the second model, NaN where undefined.
        better: which way is better.
        seed: of the bootstrap; the same for every pair, so that a result does not depend on what else is compared.
    """
    with np.errstate(invalid="ignore"):  # inf − inf
        differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    undefined = int((~np.isfinite(differences)).sum())
    differences = differences[np.isfinite(differences)]
    n = len(differences)
    note = _count(undefined, "pair", "undefined")
    statistic = p = _NAN
    if n < FEWEST_PAIRS:
        note = _join(note, _TOO_FEW)
    elif not differences.any():
        statistic, p = 0.0, 1.0  # what scipy calls undefined: nothing is left of it without zeros
    else:
        statistic, p = _signed_rank(differences)
        differ = np.count_nonzero(differences)
        if differ < FEWEST_PAIRS:
            note = _join(note, f"only {differ} pair{'' if differ == 1 else 's'} differ{'s' if differ == 1 else ''}")
    mean_low, mean_high = _interval(differences, np.mean, "BCa", seed)
    median_low, median_high = _interval(differences, _median, "percentile", seed)
    gains = differences if better == "higher" else -differences
    return PairComparison(
        n=n,
        mean_difference=float(differences.mean()) if n else _NAN,
        mean_low=mean_low,
        mean_high=mean_high,
        median_difference=float(np.median(differences)) if n else _NAN,
        median_low=median_low,
        median_high=median_high,
        statistic=statistic,
        wilcoxon_p=p,
        wins=int((gains > 0).sum()),
        ties=int((gains == 0).sum()),
        losses=int((gains < 0).sum()),
        note=note,
    )


def compare_all(cases: pd.DataFrame, metrics: Mapping[str, Metric], seed: int = 0) -> pd.DataFrame:
    """Compare all pairs of models, and all models together, per label and metric that has a better direction.

    Args:
        cases: one row per model × fold × case × label, with the columns `model`, `case`, `subject`, `label` and one per
            metric, NaN where undefined.

    Returns:
        `COLUMNS`; test is "wilcoxon" with two models, or "friedman" for the row of all models (three or more).
    """
    models = list(pd.unique(cases["model"]))
    rows = []
    for label, name, better, values in _tested(cases, metrics):
        pairs = []
        for first, second in combinations(models, 2):
            units, alone = values.units((first, second))
            pair = {"label": label, "metric": name, "test": "wilcoxon", "model_a": first, "model_b": second}
            pair |= asdict(compare_pair(units[first], units[second], better, seed))
            pair["p"] = pair.pop("wilcoxon_p")
            pair["note"] = _join(_count(alone, "unit", "of one model only"), pair["note"])
            pairs.append(pair)
        for pair, adjusted in zip(pairs, holm([pair["p"] for pair in pairs])):
            pair["p_holm"] = float(adjusted)
        rows += pairs
        if len(models) > 2:
            friedman = _friedman(*values.units(models))
            rows.append({"label": label, "metric": name, "test": "friedman"} | friedman)
    table = pd.DataFrame(rows, columns=list(COLUMNS)).fillna({"model_a": "", "model_b": "", "note": ""})
    return table.astype(dict.fromkeys(("n", "wins", "ties", "losses"), "Int64"))


def interval_of_mean(values: np.ndarray | Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of the mean of some units, BCa; NaN for fewer than two of them.

    Args:
        values: (n,), NaN where undefined, which is left out.
        seed: of the bootstrap.
    """
    values = np.asarray(values, dtype=float)
    return _interval(values[np.isfinite(values)], np.mean, "BCa", seed)


def mean_ranks(cases: pd.DataFrame, metrics: Mapping[str, Metric]) -> pd.DataFrame:
    """Return the mean rank of every model, 1 = best, equal ones sharing the mean of their places.

    Over the n units that are defined for all models; columns label, metric, model, mean_rank, n.
    """
    models = list(pd.unique(cases["model"]))
    rows = []
    for label, name, better, values in _tested(cases, metrics):
        units = values.units(models)[0].dropna()
        ranks = units.rank(axis=1, ascending=better == "lower").mean()
        rows += [(label, name, model, ranks[model], len(units)) for model in models]
    return pd.DataFrame(rows, columns=["label", "metric", "model", "mean_rank", "n"])


def _tested(cases: pd.DataFrame, metrics: Mapping[str, Metric]) -> Iterator[tuple[str, str, Direction, CaseValues]]:
    """Yield label, metric that has a better direction, that direction, and its values."""
    for label in pd.unique(cases["label"]):
        of_label = cases[cases["label"] == label]
        for name, metric in metrics.items():
            if metric.better is not None:
                yield label, name, metric.better, CaseValues.of(of_label, name)


def _friedman(units: pd.DataFrame, left_out: int) -> dict[str, float | int | str]:
    defined = units.dropna()
    note = _count(left_out + len(units) - len(defined), "unit", "not defined for all models")
    statistic = p = _NAN
    if len(defined) < FEWEST_PAIRS:
        note = _join(note, _TOO_FEW)
    elif (defined.nunique(axis=1) == 1).all():
        statistic, p = 0.0, 1.0  # all models equal on every unit: scipy divides by zero
    else:
        result = friedmanchisquare(*(defined[model] for model in defined))
        statistic, p = float(result.statistic), float(result.pvalue)
    return {"n": len(defined), "statistic": statistic, "p": p, "note": note}


def _signed_rank(differences: np.ndarray) -> tuple[float, float]:
    """Statistic and two-sided p-value of `scipy.stats.wilcoxon`, exact wherever that many signs can be counted.

    How many signs lead to each sum of ranks is counted one pair after the other, in place of trying all 2ⁿ.
    """
    differences = differences[differences != 0]
    if len(differences) > _EXACT:
        result = wilcoxon(differences)
        return float(result.statistic), float(result.pvalue)
    ranks = np.rint(2 * rankdata(np.abs(differences))).astype(int)  # twice, so that the mean ranks of ties are whole
    ways = np.zeros(ranks.sum() + 1)  # [sum of positive ranks]: by how many signs it is reached
    ways[0] = 1
    for rank in ranks:
        ways[rank:] += ways[:-rank].copy()
    plus = ranks[differences > 0].sum()
    tail = min(ways[: plus + 1].sum(), ways[plus:].sum())
    return min(plus, ranks.sum() - plus) / 2, min(1.0, float(2 * tail / 2 ** len(ranks)))


def _count(number: int, what: str, how: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'} {how}" if number else ""


def _join(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _interval(differences: np.ndarray, statistic: Callable, method: str, seed: int) -> tuple[float, float]:
    """Bootstrap 95 % interval; percentiles where BCa is not defined, as for differences that are all the same."""
    if len(differences) < 2:
        return _NAN, _NAN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy.stats.DegenerateDataWarning and the divisions by zero that lead to it
        result = bootstrap(
            (differences,),
            statistic,
            n_resamples=RESAMPLES,
            batch=max(1, _BATCH // len(differences)),
            vectorized=True,
            method=method,
            rng=np.random.default_rng(seed),
        )
    low, high = (float(end) for end in result.confidence_interval)
    if np.isnan(low) or np.isnan(high):
        return _interval(differences, statistic, "percentile", seed) if method == "BCa" else (_NAN, _NAN)
    return low, high


def _median(x: np.ndarray, axis: int) -> np.ndarray:
    """Compute np.median, but on many short rows several times as fast."""
    x = np.sort(x, axis=axis)
    middle = x.shape[axis] // 2
    upper = x.take(middle, axis=axis)
    return upper if x.shape[axis] % 2 else (x.take(middle - 1, axis=axis) + upper) / 2
