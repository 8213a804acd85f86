"""What was planned, as a short table: a row for each configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_xmodal.files.inherited import with_inherited

_HEADER = ("configuration", "spacing (mm)", "patch", "batch", "levels", "widths", "network")


def plans_table(plans: Mapping[str, Any]) -> str:
    """Return the plans' configurations side by side; – for what one does not say.

    Args:
        plans: as in plans.json; configurations may inherit from others.
    """
    configurations = plans["configurations"]
    rows = [_HEADER, *(_row(name, with_inherited(configurations, name)) for name in configurations)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _row(name: str, configuration: Mapping[str, Any]) -> tuple[str, ...]:
    architecture = configuration.get("architecture", {})
    arguments = architecture.get("arch_kwargs", {})
    network = str(architecture.get("network_class_name", "–")).rpartition(".")[2]
    shown = (
        _sides(configuration.get("spacing"), ".3g"),
        _sides(configuration.get("patch_size"), "d"),
        str(configuration.get("batch_size", "–")),
        str(arguments.get("n_stages", "–")),
        _from_to(arguments.get("features_per_stage")),
        network or "–",
    )
    return (name, *shown)


def _sides(numbers: Sequence[float] | None, style: str) -> str:
    if not numbers:
        return "–"
    return "×".join(format(int(number) if style == "d" else float(number), style) for number in numbers)


def _from_to(widths: Sequence[int] | int | None) -> str:
    if not isinstance(widths, Sequence) or not widths:
        return "–" if widths is None else str(widths)
    return f"{widths[0]}–{widths[-1]}" if len(widths) > 1 else str(widths[0])
