"""Numbers as a reader wants them: in the metric's unit, with as many digits as are worth reading."""

import math

from nnunet_xmodal.evaluation.metrics import Metric

MISSING = "–"
_DIGITS = {"%": 1, "mm": 2, "ml": 1}
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def digits(metric: Metric) -> int | None:
    """Return the decimals a metric is shown with; None for units with four significant digits instead."""
    return _DIGITS.get(metric.unit)


def shown(value: float, metric: Metric, signed: bool = False) -> str:
    """Return a stored value in the metric's unit, without the unit."""
    if math.isnan(value):
        return MISSING
    decimals = digits(metric)
    style = ".4g" if decimals is None else f".{decimals}f"
    return _minus(f"{metric.scale * value:{'+' if signed else ''}{style}}")


def mean_and_sd(mean: float, sd: float, metric: Metric) -> str:
    """Return `mean ± sd`, or only the mean where there is no sd, as for one fold."""
    return shown(mean, metric) if math.isnan(sd) else f"{shown(mean, metric)} ± {shown(sd, metric)}"


def with_interval(value: float, low: float, high: float, metric: Metric, signed: bool = False) -> str:
    """Return a value and the interval around it, if there is one: `1.2 [0.3, 2.0]`."""
    middle = shown(value, metric, signed)
    if math.isnan(low) or math.isnan(high):
        return middle
    return f"{middle} [{shown(low, metric, signed)}, {shown(high, metric, signed)}]"


def p_value(p: float) -> str:
    """Return a p-value as text."""
    if math.isnan(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def with_prefix(value: float) -> str:
    """Return a number with a metric prefix: `30.8 M` for 30,800,000."""
    if math.isnan(value):
        return MISSING
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:g}"


def seconds(value: float) -> str:
    """Return seconds as text."""
    return MISSING if math.isnan(value) else f"{value:.1f}"


def difference_name(metric: Metric) -> str:
    """Return name and unit of differences: those of percentages are percentage points."""
    unit = "pp" if metric.unit == "%" else metric.unit
    return f"{metric.name} ({unit})" if unit else metric.name


def arrow(metric: Metric) -> str:
    """Return the arrow that stands behind a metric's name and shows which way is better."""
    return {"higher": " ↑", "lower": " ↓", None: ""}[metric.better]


def _minus(text: str) -> str:
    """Write a minus sign as wide as the plus, and none before a rounded zero."""
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")
