"""The `summary.json` of a final validation whose metrics are not nnU-Net's; the contract is in development.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from nnunet_xmodal.files.atomic import write_json

CaseResult = dict[str, Any]
"""`reference_file`, `prediction_file`, `metrics[<label>][<metric>]`, and what else a task says of a case."""


def gather_results(results: list[CaseResult], ranks: int) -> list[CaseResult]:
    """Return the results of the cases of all ranks, in the order of their files; every rank has to call it."""
    if ranks == 1:
        return results
    of_ranks: list[list[CaseResult]] = [[] for _ in range(ranks)]
    dist.all_gather_object(of_ranks, results)
    return sorted((result for part in of_ranks for result in part), key=lambda result: result["prediction_file"])


def mean_metrics(results: Sequence[CaseResult], label: str) -> dict[str, float]:
    """Return metric → mean over the cases; `label` is the key under which each has its metrics."""
    per_case = [result["metrics"][label] for result in results]
    return {name: float(np.mean([metrics[name] for metrics in per_case])) for name in per_case[0]}


def write_summary(folder: Path, results: Sequence[CaseResult], label: str, notes: Mapping[str, Any]) -> None:
    """Write `summary.json` with all cases, the means, and the notes ("directions", for one) under "xmodal"."""
    means = mean_metrics(results, label)
    summary = {"metric_per_case": results, "mean": {label: means}, "foreground_mean": means, "xmodal": notes}
    write_json(summary, folder / "summary.json")
