"""All channels of a case side by side, the label outlined: misalignment is seen at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_xmodal.evaluation.figures.planes import window
from nnunet_xmodal.files.atomic import write_atomically

_INCH = 2.4  # width of a panel
_COLOURS = ("#ffd400", "#00d0ff", "#ff5fa2", "#7dff5f", "#ff9a3c", "#b18cff")


def draw_case(
    channels: Mapping[str, np.ndarray], label: np.ndarray | None, spacing: Sequence[float], file: str | Path
) -> None:
    """Draw a column per channel: the plane across z with most of the label, and one across y through its middle.

    Every value of the label is outlined in a colour of its own, at the same place in all channels. Dotted lines, at the
    quarters of the picture, are marks for the eye where there is no label.

    Args:
        channels: name → `(z, y, x)`, on one grid.
        label: `(z, y, x)`, whole numbers; None or empty: the planes through the middle of the volume.
        spacing: mm along z, y, x.
    """
    shape = next(iter(channels.values())).shape
    if label is not None and not label.any():
        label = None
    z = shape[0] // 2 if label is None else int((label != 0).sum((1, 2)).argmax())
    y = shape[1] // 2 if label is None else int(np.round(np.argwhere(label[z])[:, 0].mean()))
    height, depth = shape[1] * spacing[1], shape[0] * spacing[0]
    width = shape[2] * spacing[2]
    tall = _INCH / width
    figure = Figure(figsize=(_INCH * len(channels), tall * (height + depth) + 0.25))
    panels = figure.subplots(2, len(channels), squeeze=False, height_ratios=(height, depth))
    figure.subplots_adjust(0, 0, 1, 1 - 0.22 / figure.get_figheight(), 0.01, 0.02)
    for (name, volume), column in zip(channels.items(), panels.T):
        black, white = window(volume, volume != 0)
        column[0].set_title(name, fontsize=8, pad=3)
        for axis, plane, outline, mm in (
            (column[0], volume[z], None if label is None else label[z], spacing[1]),
            (column[1], volume[:, y], None if label is None else label[:, y], spacing[0]),
        ):
            upright = "upper" if axis is column[0] else "lower"  # z runs upwards
            axis.imshow(plane, cmap="gray", vmin=black, vmax=white, aspect=mm / spacing[2], origin=upright)
            _outline(axis, plane.shape, outline)
            axis.set_axis_off()
    write_atomically(file, lambda name: FigureCanvasAgg(figure).print_png(name))


def _outline(axis: Axes, shape: tuple[int, int], label: np.ndarray | None) -> None:
    if label is None or not label.any():
        for side, line in zip(shape, (axis.axhline, axis.axvline)):
            for quarter in (1, 2, 3):
                line(side * quarter / 4 - 0.5, color="white", linewidth=0.4, linestyle=":")
        return
    padded = np.pad(label, 1)
    ticks = [np.arange(-1, side + 1) for side in shape]
    for value in np.unique(label[label != 0]).tolist():
        colour = _COLOURS[(int(value) - 1) % len(_COLOURS)]
        axis.contour(ticks[1], ticks[0], padded == value, levels=[0.5], colors=colour, linewidths=0.8)
