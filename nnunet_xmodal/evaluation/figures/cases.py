"""A figure of cases: channels, reference, predictions; one row per case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_xmodal.evaluation.figures.plain_text import plain_text

TRUTH, PREDICTION = "#35d04f", "#ff5a36"
_INCH = 1.75  # side of a panel


@dataclass
class CasePanels:
    """One slice of a case; every array `(y, x)` on the grid of the image.

    Attributes:
        name: stands beside the row.
        channels: title → intensities.
        truth: labels.
        predictions: trainer → labels.
        dice: trainer → Dice of the whole case's foreground, as a fraction, or None.
        aspect: height of a pixel over its width.
    """

    name: str
    channels: Mapping[str, np.ndarray]
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]
    dice: Mapping[str, float | None] = field(default_factory=dict)
    aspect: float = 1.0


def clearest_slice(truth: np.ndarray | None, *predictions: np.ndarray) -> int:
    """Choose the slice `(z, y, x)` with most foreground in the truth, else in the predictions, else the middle one."""
    for volumes in ([truth] if truth is not None else [], predictions):
        area = sum(((volume > 0).sum((1, 2)) for volume in volumes), start=np.zeros(1))
        if area.any():
            return int(area.argmax())
    return len(predictions[0]) // 2


def foreground_dice(prediction: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the Dice of everything that is not background; None where both are empty."""
    predicted, true = prediction > 0, truth > 0
    size = predicted.sum() + true.sum()
    return float(2 * (predicted & true).sum() / size) if size else None


def draw_cases(cases: Sequence[CasePanels], file: str | BinaryIO) -> None:
    """Write the figure as PNG; the first case decides which columns there are."""
    first = cases[0]
    columns = len(first.channels) + len(first.predictions)
    figure = Figure(figsize=(_INCH * columns + 1.2, _INCH * len(cases) + 0.95), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(cases),
        columns,
        left=0.3 / figure.get_figwidth(),
        right=1 - 0.85 / figure.get_figwidth(),
        top=1 - 0.5 / figure.get_figheight(),
        bottom=0.4 / figure.get_figheight(),
        wspace=0.04,
        hspace=0.04,
    )
    for row, case in enumerate(cases):
        axes = [figure.add_subplot(grid[row, column]) for column in range(columns)]
        _draw_row(axes, case, titles=row == 0)
    figure.legend(
        handles=[Line2D([], [], color=TRUTH, label="reference"), Line2D([], [], color=PREDICTION, label="prediction")],
        loc="lower left",
        bbox_to_anchor=(0.3 / figure.get_figwidth(), 0.0),
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    figure.savefig(file)


def _draw_row(axes: Sequence, case: CasePanels, titles: bool) -> None:
    remaining = iter(axes)
    channels = list(case.channels.items())
    for title, image in channels:
        axis = next(remaining)
        _image(axis, image, case.aspect)
        _contour(axis, case.truth, TRUTH)
        _title(axis, title, titles)
    for trainer, prediction in case.predictions.items():
        axis = next(remaining)
        _image(axis, channels[0][1], case.aspect)
        _contour(axis, case.truth, TRUTH)
        _contour(axis, prediction, PREDICTION)
        _title(axis, trainer.removeprefix("nnUNetTrainer") or "nnU-Net", titles)
        dice = case.dice.get(trainer)
        if dice is not None:
            axis.text(
                0.97, 0.03, f"Dice {100 * dice:.0f}", transform=axis.transAxes, ha="right", color="white",
                fontsize=7,
            )  # fmt: skip
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[0].set_ylabel(plain_text(case.name), fontsize=7)


def _image(axis: Axes, image: np.ndarray, aspect: float) -> None:
    low, high = np.percentile(image, (1, 99))
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")


def _contour(axis: Axes, labels: np.ndarray, colour: str) -> None:
    for value in np.unique(labels[labels > 0]):
        axis.contour(labels == value, levels=[0.5], colors=colour, linewidths=1.1)


def _title(axis: Axes, text: str, show: bool) -> None:
    if show:
        axis.set_title(plain_text(text), fontsize=8)
