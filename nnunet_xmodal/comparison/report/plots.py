"""The plots of a report, as PNG files in memory: scores, paired differences, training curves."""

import io
import re
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_xmodal.comparison.report.contents import Curve
from nnunet_xmodal.comparison.report.numbers import difference_name
from nnunet_xmodal.evaluation.figures.plain_text import plain_text
from nnunet_xmodal.evaluation.metrics import Metric
from nnunet_xmodal.evaluation.statistics import CaseValues

COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
    "#332288", "#882255", "#117733", "#999933", "#aa4499", "#555555",
)  # fmt: skip
"""Of the models, told apart by colour-blind people too: Okabe and Ito's first, then Paul Tol's muted ones."""

_DPI = 144
_WIDTH = 4.4  # inches
_ROW = 0.36  # inches per model or pair
_LINE = 0.17  # inches per further line of a name
_WRAP = 20  # characters
_INK = "#333333"
_MOST_PAIRS = 15  # of six models
_LONG_TAIL = 8  # a distance this many times its upper quartile needs a logarithmic axis to leave the boxes legible

CURVES = {"train_loss": "training loss", "val_loss": "validation loss", "pseudo_dice": "pseudo Dice"}
"""Attribute of `Curve` → title."""


def score_plot(cases: pd.DataFrame, metric: Metric, models: Sequence[str]) -> bytes | None:
    """Draw a box and points for every model and one label; None where no case is defined.

    Args:
        cases: rows of one label.
    """
    of_models = [metric.scale * _finite(cases.loc[cases["model"] == model, metric.name]) for model in models]
    if not any(map(len, of_models)):
        return None
    names = shown_names(models)
    figure, axis = _figure(names)
    rng = np.random.default_rng(0)
    for row, values in enumerate(of_models):
        colour = COLOURS[row % len(COLOURS)]
        _points(axis, values, row, colour, rng)
        if len(values):
            axis.boxplot(
                values,
                positions=[row],
                orientation="horizontal",
                widths=0.56,
                showfliers=False,  # they are among the points
                manage_ticks=False,
                patch_artist=True,
                boxprops={"facecolor": colour + "30", "edgecolor": colour},
                medianprops={"color": colour, "linewidth": 2},
                whiskerprops={"color": colour},
                capprops={"color": colour},
            )
    everything = np.concatenate(of_models)
    title = metric.shown
    if metric.kind == "distance" and everything.max() > _LONG_TAIL * max(1, np.quantile(everything, 0.75)):
        axis.set_xscale("symlog", linthresh=1)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlim(left=0)
        title += ", logarithmic above 1"
    _rows(axis, names, title)
    return as_png(figure)


def difference_plot(cases: pd.DataFrame, metric: Metric, pairs: pd.DataFrame) -> bytes | None:
    """Draw the differences of all units, a row per pair of models, with mean and interval; None without any pair.

    Of more than `_MOST_PAIRS` those with the smallest p-values; the plot says so.

    Args:
        cases: rows of one label.
        pairs: rows of `statistics.compare_all` of that label and metric, test "wilcoxon".
    """
    pairs = pairs[pairs["n"] > 0]
    if pairs.empty:
        return None
    total = len(pairs)
    pairs = pairs.sort_values("p", kind="stable").head(_MOST_PAIRS).sort_index()
    models = list(pd.unique(pairs[["model_a", "model_b"]].to_numpy().ravel()))
    short = dict(zip(models, shown_names(models)))
    names = [f"{short[pair.model_a]}\n− {short[pair.model_b]}" for pair in pairs.itertuples()]
    figure, axis = _figure(names)
    axis.axvline(0, color=_INK, linewidth=1)
    rng = np.random.default_rng(0)
    values = CaseValues.of(cases, metric.name)
    for row, pair in enumerate(pairs.itertuples()):
        units, _ = values.units((pair.model_a, pair.model_b))
        _points(axis, metric.scale * _finite(units[pair.model_a] - units[pair.model_b]), row, "#8a94a0", rng)
        low, high = (metric.scale * end for end in (pair.mean_low, pair.mean_high))
        certain = low > 0 or high < 0
        colour = COLOURS[0] if certain else _INK
        axis.plot([low, high], [row, row], color=colour, linewidth=2.5, solid_capstyle="butt", zorder=4)
        axis.plot(metric.scale * pair.mean_difference, row, "D", color=colour, markersize=4.5, zorder=5)
    title = f"difference in {difference_name(metric)}"
    if metric.better is not None:
        title += f"\n{'right' if metric.better == 'higher' else 'left'} of 0 the first model is better"
    if len(pairs) < total:
        title += f"\nthe {len(pairs)} of {total} pairs with the smallest p"
    _rows(axis, names, title)
    return as_png(figure)


def curve_plot(curves: Mapping[str, Mapping[str, Curve]], what: str, models: Sequence[str]) -> bytes | None:
    """Draw one quantity over epochs: folds as thin lines, their mean as a thick one; None if no log has it.

    Args:
        curves: model → fold → training.
        what: key of `CURVES`.
        models: all, so that a model has the same colour in every plot.
    """
    figure = Figure(figsize=(_WIDTH, 3.6), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    names = shown_names(models)
    for index, model in enumerate(models):
        colour = COLOURS[index % len(COLOURS)]
        folds = [_series(curve, what) for curve in curves.get(model, {}).values()]
        folds = [fold for fold in folds if len(fold)]
        for fold in folds:
            axis.plot(fold.index, fold, color=colour, linewidth=0.7, alpha=0.4)
        if folds:
            mean = pd.concat(folds, axis=1).mean(axis=1).sort_index()
            # a marker, because a line of one epoch cannot be seen
            marker = "o" if len(mean) < 3 else None
            name = names[index].replace("\n", "")
            axis.plot(mean.index, mean, color=colour, linewidth=1.8, marker=marker, label=name)
    if not axis.lines:
        return None
    axis.set_xlabel("epoch", fontsize=9)
    axis.set_ylabel(CURVES[what], fontsize=9)
    axis.grid(color="#e6e6e6", linewidth=0.8)
    plain(axis)
    legend_columns = 1 if any("\n" in name for name in names) else 2
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=legend_columns)
    figure.set_figheight(2.9 + 0.17 * -(-len(labels) // legend_columns))
    return as_png(figure)


def _series(curve: Curve, what: str) -> pd.Series:
    values = pd.Series(list(getattr(curve, what)), dtype=float)
    values.index = pd.Index(list(curve.epoch)[: len(values)], dtype=float)
    return values[np.isfinite(values)].groupby(level=0).last()  # a resumed training may log an epoch again


def _figure(names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure that is high enough for a row per name."""
    height = 0.75 + sum(_ROW + _LINE * name.count("\n") for name in names)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _rows(axis: Axes, names: Sequence[str], title: str) -> None:
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)  # the first on top
    axis.set_xlabel(title, fontsize=9)
    axis.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axis.tick_params(axis="y", length=0)
    plain(axis)


def plain(axis: Axes) -> None:
    """Draw nothing of an axis's frame but what a reader needs."""
    axis.set_axisbelow(True)
    axis.tick_params(colors=_INK, labelsize=8)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color("#999999")


def _points(axis: Axes, values: np.ndarray, row: int, colour: str, rng: np.random.Generator) -> None:
    heights = row + rng.uniform(-0.2, 0.2, len(values))
    opacity = float(np.clip(30 / max(1, len(values)), 0.15, 0.6))
    axis.scatter(values, heights, s=9, color=colour, alpha=opacity, linewidths=0, zorder=3)


def _finite(values: pd.Series) -> np.ndarray:
    values = values.to_numpy(dtype=float)
    return values[np.isfinite(values)]


def shown_names(models: Sequence[str]) -> list[str]:
    """Return names without nnU-Net's common beginning, if that leaves them different, in lines; never mathematics."""
    short = [model.removeprefix("nnUNetTrainer").lstrip("_") or "nnU-Net" for model in models]
    if len(set(short)) < len(models):
        short = list(models)
    return [plain_text("\n".join(_wrap(name))) for name in short]


def _wrap(name: str) -> list[str]:
    """Lines of at most `_WRAP` characters, broken after _ and between camelCase words if possible."""
    lines = [""]
    for word in re.split(r"(?<=[_ ])|(?<=[a-z0-9])(?=[A-Z][a-z])", name):
        for part in textwrap.wrap(word, _WRAP, drop_whitespace=False) or [word]:
            if len(lines[-1]) + len(part) > _WRAP and lines[-1]:
                lines.append("")
            lines[-1] += part
    return lines


def as_png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
