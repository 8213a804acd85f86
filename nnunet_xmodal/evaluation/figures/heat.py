"""Maps over images: a panel per map, a slice of the image in grey and the map in colour, and what was predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_xmodal.evaluation.figures.plain_text import plain_text

_COLUMNS = 4
_INCH, _TITLE = 2.3, 0.42  # side of a panel, and above it
_CONTOUR = "#35d04f"


@dataclass(frozen=True)
class HeatPanel:
    """One map; all arrays `(y, x)` on one grid.

    Attributes:
        title: above the panel, one or two lines.
        image: intensities.
        heat: from 0, which is not drawn.
        mask: bool, outlined; None for nothing.
    """

    title: str
    image: np.ndarray
    heat: np.ndarray
    mask: np.ndarray | None = None


def draw_heat(panels: Sequence[HeatPanel], aspect: float, file: str | BinaryIO) -> None:
    """Write the panels as PNG, four in a row.

    Args:
        aspect: height of a pixel over its width.
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (_INCH * columns, (_INCH + _TITLE) * rows)
    figure = Figure(figsize=size, dpi=144, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, panels):
        low, high = np.percentile(panel.image, (1, 99))
        axis.imshow(panel.image, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
        top = float(panel.heat.max())
        strength = np.clip(panel.heat / top, 0, 1) if top > 0 else np.zeros_like(panel.heat)
        axis.imshow(strength, cmap="inferno", vmin=0, vmax=1, alpha=0.75 * strength, aspect=aspect)
        if panel.mask is not None and panel.mask.any():
            axis.contour(panel.mask, levels=[0.5], colors=_CONTOUR, linewidths=1.0)
        axis.set_title(plain_text(panel.title), fontsize=7)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(file)
