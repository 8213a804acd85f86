"""Reliability diagrams: of the voxels with a probability, how many have the label."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_xmodal.comparison.report.plots import COLOURS, as_png, plain, shown_names


def reliability_plot(bins: pd.DataFrame, models: Sequence[str]) -> bytes | None:
    """Draw the bins of one label, a line per model, dashed after temperature scaling; None without any.

    Args:
        bins: rows of `calibration_table`, of one label.
        models: all, so that a model has the same colour in every plot.
    """
    if bins.empty:
        return None
    figure = Figure(figsize=(4.4, 4.2), dpi=144, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    axis.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    names = dict(zip(models, shown_names(models)))
    for (model, scaled), of_model in bins.groupby(["model", "temperature"], sort=False):
        number = list(models).index(model)
        axis.plot(
            of_model["mean_probability"],
            of_model["share_with_label"],
            color=COLOURS[number % len(COLOURS)],
            linestyle="--" if scaled else "-",
            marker="o",
            markersize=3,
            linewidth=1.4,
            label=names[model].replace("\n", "") + (", scaled" if scaled else ""),
        )
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axis.set_xlabel("predicted probability", fontsize=9)
    axis.set_ylabel("share of voxels with the label", fontsize=9)
    plain(axis)
    axis.legend(frameon=False, fontsize=7, loc="upper left")
    return as_png(figure)
