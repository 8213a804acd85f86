"""The fusion study's picture: what every method gains on concatenation, a panel per regime."""

from pathlib import Path

import pandas as pd
from fusion_methods import BASELINE, METHODS
from matplotlib.figure import Figure

GROUPS = {"choice": "tab:grey", "confirmation": "tab:blue"}


def draw(gains: dict[str, pd.DataFrame], file: Path) -> None:
    """Draw mean gains with their 95 % intervals into an image file.

    Args:
        gains: tables of `fusion_analysis.differences` by key of GROUPS; empty ones are left out.
    """
    gains = {group: table for group, table in gains.items() if not table.empty}
    together = pd.concat(gains.values())
    regimes = list(together["regime"].unique())
    methods = [method for method in reversed(METHODS) if method in set(together["method"])]
    figure = Figure(figsize=(2.4 * len(regimes) + 1, 0.3 * len(methods) + 1.2), layout="constrained")
    axes = figure.subplots(1, len(regimes), sharex=True, sharey=True, squeeze=False)[0]
    for ax, regime in zip(axes, regimes):
        for shift, (group, table) in zip((0.15, -0.15), gains.items()):
            rows = table[table["regime"] == regime]
            heights = [methods.index(method) + shift for method in rows["method"]]
            errors = (rows["gain"] - rows["low"], rows["high"] - rows["gain"])
            ax.errorbar(rows["gain"], heights, xerr=errors, fmt="o", ms=4, lw=1.5, color=GROUPS[group], label=group)
        ax.axvline(0, color="black", lw=0.8)
        ax.set_title(regime, fontsize=10)
        ax.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(methods)), methods)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower right", ncols=2)
    figure.supxlabel(f"points of Dice on {BASELINE}, 95 % over cases", fontsize=9)
    figure.savefig(file, dpi=110)
