"""What a validation reaches on cases that have everything, and on those that lack one channel or another."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nnunet_xmodal.datasets.presence import COMPLETE, patterns_of
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json


def add_presence(file: Path, missing: Mapping[str, Sequence[str]], ending: str) -> list[str]:
    """Add to a `summary.json` of nnU-Net, under "xmodal", what cases lack and the mean metrics of each pattern.

    Args:
        missing: case → names of the channels that it lacks.
        ending: of the predictions' files.

    Returns:
        A sentence per pattern, complete cases first.
    """
    summary = read_json(file)
    results = {
        Path(result["prediction_file"]).name.removesuffix(ending): result for result in summary["metric_per_case"]
    }
    patterns = patterns_of(results, missing)
    by_presence = {}
    for pattern in sorted(set(patterns.values()), key=lambda pattern: (pattern != COMPLETE, pattern)):
        metrics = [result["metrics"] for case, result in results.items() if patterns[case] == pattern]
        by_presence[pattern] = {"cases": len(metrics), **_means(metrics)}
    summary["xmodal"] = {
        **summary.get("xmodal", {}),
        "missing": {case: list(missing.get(case, ())) for case in sorted(results)},
        "by_presence": by_presence,
    }
    write_json(summary, file)
    return [
        f"Mean Validation Dice, {pattern} ({_count(of_pattern['cases'])}): {of_pattern['foreground_mean']['Dice']}"
        for pattern, of_pattern in by_presence.items()
    ]


def _means(metrics: Sequence[Mapping[str, Mapping[str, float]]]) -> dict:
    """Return the mean of each metric over cases, of labels and over foreground labels, as nnU-Net takes them."""
    labels = list(metrics[0])
    mean = {
        label: {name: _mean([of_case[label][name] for of_case in metrics]) for name in metrics[0][label]}
        for label in labels
    }
    foreground = [label for label in labels if label != "0"]
    over_labels = {name: _mean([mean[label][name] for label in foreground]) for name in mean[foreground[0]]}
    return {"mean": mean, "foreground_mean": over_labels}


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what is defined; NaN where nothing is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _count(cases: int) -> str:
    return f"{cases} case{'' if cases == 1 else 's'}"
