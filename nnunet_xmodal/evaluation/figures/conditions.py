"""A figure of cases under several conditions: one row per case, a group of panels per condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nnunet_xmodal.evaluation.figures.plain_text import plain_text

COLOURS = ("#29b6f6", "#ff7043", "#9ccc65", "#ffd54f", "#ba68c8", "#f06292")
"""Of the labels in their order; further ones begin anew."""

_INCH, _GAP = 1.45, 0.16  # side of a panel, space between groups
_LEFT, _TOP, _BOTTOM, _BELOW = 0.15, 0.62, 0.4, 0.22  # the last one per line


@dataclass(frozen=True)
class Panel:
    """One picture of a row.

    Attributes:
        title: above the column.
        image: `(y, x)` intensities.
        labels: `(y, x)`, drawn over the image, or None.
        below: what stands below the panel, in lines.
    """

    title: str
    image: np.ndarray
    labels: np.ndarray | None = None
    below: str = ""


@dataclass(frozen=True)
class Row:
    """One case: heading → panels that stand together; `aspect` is the height of a pixel over its width."""

    groups: Mapping[str, Sequence[Panel]]
    aspect: float = 1.0


def draw_rows(rows: Sequence[Row], label_names: Mapping[int, str], file: str | BinaryIO) -> None:
    """Write the figure as PNG; the first row decides headings and titles.

    Args:
        rows: with the same groups.
        label_names: value → name, for the legend; values without a name are not drawn.
    """
    groups = rows[0].groups
    width = sum(len(panels) for panels in groups.values()) * _INCH + (len(groups) - 1) * _GAP + 2 * _LEFT
    panels_of_all = [panel for row in rows for panels in row.groups.values() for panel in panels]
    below = _BELOW * max(1 + panel.below.count("\n") for panel in panels_of_all)
    height = len(rows) * (_INCH + below) + _TOP + _BOTTOM
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    colours = {value: COLOURS[index % len(COLOURS)] for index, value in enumerate(label_names)}
    for index, row in enumerate(rows):
        bottom = height - _TOP - index * (_INCH + below) - _INCH
        left = _LEFT
        for heading, panels in row.groups.items():
            for panel in panels:
                place = (left / width, bottom / height, 0.96 * _INCH / width, 0.96 * _INCH / height)
                _draw(figure.add_axes(place), panel, colours, row.aspect, with_title=index == 0)
                left += _INCH
            if index == 0:
                middle = left - len(panels) * _INCH / 2
                figure.text(
                    middle / width,
                    1 - 0.2 / height,
                    plain_text(heading),
                    ha="center",
                    va="center",
                    size=11,
                    weight="bold",
                )
            left += _GAP
    handles = [
        Patch(facecolor="none", edgecolor=colours[v], linewidth=1.6, label=plain_text(n))
        for v, n in label_names.items()
    ]
    figure.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0), ncols=len(handles), frameon=False, fontsize=10
    )
    figure.savefig(file)


def _draw(axis: Axes, panel: Panel, colours: Mapping[int, str], aspect: float, with_title: bool) -> None:
    low, high = np.percentile(panel.image, (1, 99))
    axis.imshow(panel.image, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
    for value, colour in colours.items():
        if panel.labels is not None and (panel.labels == value).any():
            # an outline around everything inside: a lesion is no hole of its organ
            axis.contour(panel.labels >= value, levels=[0.5], colors=colour, linewidths=1.5)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_xlabel(plain_text(panel.below), fontsize=9, labelpad=3)
    if with_title:
        axis.set_title(plain_text(panel.title), fontsize=9 if len(panel.title) > 12 else 10, pad=4)
