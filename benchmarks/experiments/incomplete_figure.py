"""The picture of incomplete cohorts: Dice of every trainer by the channels that a case has, a panel per label."""

from pathlib import Path

import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from nnunet_xmodal.trainers.base.names import without_length

_BREADTH = 0.7  # of a subset's group of trainers


def draw(table: pd.DataFrame, file: Path) -> None:
    """Draw the cases as dots and their means as bars into an image file.

    Args:
        table: a row per model, subset, case and label, with Dice from 0 to 1; empty labels are NaN.
    """
    labels, subsets, models = (list(table[column].unique()) for column in ("label", "subset", "model"))
    figure = Figure(figsize=(1.2 * len(subsets) * len(labels) + 2.5, 3.4), layout="constrained")
    axes = figure.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    colours = colormaps["tab10"].colors
    step = _BREADTH / len(models)
    for ax, label in zip(axes, labels):
        of_label = table[table["label"] == label]
        for number, model in enumerate(models):
            shift = (number - (len(models) - 1) / 2) * step
            for place, subset in enumerate(subsets):
                dice = (
                    100 * of_label.loc[(of_label["model"] == model) & (of_label["subset"] == subset), "Dice"].dropna()
                )
                if dice.empty:
                    continue
                middle = place + shift
                ax.plot([middle] * len(dice), dice, ".", color=colours[number], ms=4, alpha=0.5)
                ax.hlines(dice.mean(), middle - step / 2.5, middle + step / 2.5, color=colours[number], lw=2.5)
        for number, model in enumerate(models):
            ax.plot([], [], color=colours[number], lw=2.5, label=without_length(model).removeprefix("nnUNetTrainer"))
        ax.set_xticks(range(len(subsets)), [subset.replace(" ", "\n") for subset in subsets], fontsize=8)
        ax.set_title(label, fontsize=10)
        ax.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("Dice, %")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    figure.savefig(file, dpi=110)
