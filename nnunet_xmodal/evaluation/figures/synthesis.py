"""Real beside synthesised modalities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_xmodal.evaluation.figures.plain_text import plain_text
from nnunet_xmodal.files.atomic import write_atomically

_INCH = 2.0  # side of a panel


@dataclass
class MadeChannel:
    """A real channel and the one that was made in its place.

    Attributes:
        name, made_of: "FLAIR", "T1 + T1c".
        real, made: `(z, y, x)` on one scale.
    """

    name: str
    made_of: str
    real: np.ndarray
    made: np.ndarray


def draw_synthesis(channels: Sequence[MadeChannel], mask: np.ndarray, file: str | Path) -> None:
    """Write a PNG with a row per channel: real, made, and absolute difference, in the slice with most of the mask.

    Real and made share the grey values of the real image's 0.5th to 99.5th percentile inside the mask; the difference
    is black at 0 and white at half of that range.

    Args:
        mask: bool `(z, y, x)`.
    """
    index = int(mask.sum((1, 2)).argmax())
    figure = Figure(figsize=(3 * _INCH, (_INCH + 0.15) * len(channels)), layout="constrained")
    for channel, axes in zip(channels, figure.subplots(len(channels), 3, squeeze=False)):
        real, made = channel.real[index], channel.made[index]
        inside = channel.real[mask] if mask.any() else channel.real
        low, high = np.percentile(inside, (0.5, 99.5))
        high = max(high, low + 1e-6)  # a constant channel
        shown = ((real, low, high), (made, low, high), (np.abs(made - real), 0, (high - low) / 2))
        titles = (f"{channel.name}, real", f"{channel.name} from {channel.made_of}", "|difference|")
        for axis, title, (image, black, white) in zip(axes, titles, shown):
            axis.imshow(np.where(mask[index], image, black), cmap="gray", vmin=black, vmax=white)
            axis.set_title(plain_text(title), fontsize=7)
            axis.set_axis_off()
    write_atomically(file, lambda name: FigureCanvasAgg(figure).print_png(name))
