"""Shapley values as bars: a panel per label and measure, a bar per stream or channel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_xmodal.evaluation.figures.plain_text import plain_text

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of the players in their order."""

_INK = "#333333"
_WIDTH, _ROW, _AROUND = 4.0, 0.34, 0.95  # inches: of a panel, of a bar, above and below the bars


@dataclass(frozen=True)
class Bars:
    """One panel.

    Attributes:
        title: label and measure.
        axis: name of the axis, with the unit.
        names: of the players.
        values: one per player.
        intervals: `(n, 2)`, their 95 % intervals; None for a single case.
    """

    title: str
    axis: str
    names: Sequence[str]
    values: np.ndarray
    intervals: np.ndarray | None = None


def draw_bars(panels: Sequence[Bars], file: str | BinaryIO, title: str = "") -> None:
    """Write the panels side by side as PNG."""
    bars = max(len(panel.names) for panel in panels)
    size = (_WIDTH * len(panels), _AROUND + _ROW * bars + (0.3 if title else 0))
    figure = Figure(figsize=size, dpi=144, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(plain_text(title), fontsize=10)
    for panel, axis in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0]):
        _draw(axis, panel)
    figure.savefig(file)


def _draw(axis: Axes, panel: Bars) -> None:
    rows = np.arange(len(panel.names))
    colours = [COLOURS[row % len(COLOURS)] for row in rows]
    axis.barh(rows, np.nan_to_num(panel.values), height=0.62, color=colours)
    ends = panel.values
    if panel.intervals is not None and np.isfinite(panel.intervals).all():
        low, high = panel.intervals.T
        axis.hlines(rows, low, high, color=_INK, linewidth=1.6)
        ends = np.where(panel.values < 0, low, high)
    for row, (value, end) in enumerate(zip(panel.values, ends)):
        text, left = (f"{value:.3g}".replace("-", "−"), end >= 0) if np.isfinite(value) else ("undefined", True)
        axis.annotate(
            text,
            (end if np.isfinite(end) else 0, row),
            xytext=(4 if left else -4, 0),
            textcoords="offset points",
            va="center",
            ha="left" if left else "right",
            fontsize=8,
            color=_INK,
        )
    axis.axvline(0, color=_INK, linewidth=0.8)
    axis.margins(x=0.22)
    axis.set_yticks(rows, [plain_text(name) for name in panel.names], fontsize=8)
    axis.set_ylim(len(panel.names) - 0.5, -0.5)  # the first on top
    axis.set_xlabel(panel.axis, fontsize=8)
    axis.set_title(plain_text(panel.title), fontsize=9)
    axis.tick_params(labelsize=8, colors=_INK)
    axis.spines[["top", "right", "left"]].set_visible(False)
