"""Volumes in three planes, one below the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_xmodal.evaluation.figures.plain_text import plain_text
from nnunet_xmodal.files.atomic import write_atomically

_INCH = 2.2  # width of a panel


@dataclass(frozen=True)
class ShownVolume:
    """A volume and how its values are drawn.

    Attributes:
        name: with its unit, for the title.
        values: `(z, y, x)`.
        black, white: values that are drawn so.
    """

    name: str
    values: np.ndarray
    black: float
    white: float


def window(values: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Return the 0.5th and 99.5th percentile in a mask, never the same: `(z, y, x)`, bool → black and white."""
    inside = values[mask] if mask.any() else values
    low, high = (float(value) for value in np.percentile(inside, (0.5, 99.5)))
    return low, high if high > low else low + 1e-6


def draw_planes(volumes: Sequence[ShownVolume], mask: np.ndarray, spacing: Sequence[float], file: str | Path) -> None:
    """Write a PNG with a row per volume: the planes across z, y and x through the middle of the mask, in mm.

    Args:
        mask: bool `(z, y, x)`; the middle of the volume where it is empty.
        spacing: mm along z, y, x.
    """
    inside = np.argwhere(mask)
    middle = inside.mean(0).round().astype(int) if len(inside) else np.array(mask.shape) // 2
    figure = Figure(figsize=(3 * _INCH, (_INCH + 0.2) * len(volumes)), layout="constrained")
    for volume, axes in zip(volumes, figure.subplots(len(volumes), 3, squeeze=False)):
        for normal, axis in enumerate(axes):
            down, across = (other for other in range(3) if other != normal)
            plane = volume.values.take(middle[normal], axis=normal)
            axis.imshow(
                plane,
                cmap="gray",
                vmin=volume.black,
                vmax=volume.white,
                aspect=spacing[down] / spacing[across],
                origin="upper" if normal == 0 else "lower",  # z runs upwards
            )
            axis.set_axis_off()
        axes[0].set_title(
            f"{plain_text(volume.name)}, {volume.black:.3g} to {volume.white:.3g}", fontsize=7, loc="left"
        )
    write_atomically(file, lambda name: FigureCanvasAgg(figure).print_png(name))
