"""Results by what cases have: those that are complete, and those that lack one channel or another."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.comparison.report.contents import ReportContents
from nnunet_xmodal.datasets.presence import COMPLETE, MISSING_FILE, patterns_of, read_missing
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.summary import summarise
from nnunet_xmodal.files.json_files import read_json


def presence_of_cases(dataset: str | None, models: Sequence[ModelResults], cases: Sequence[str]) -> dict[str, str]:
    """Return case → what it has, see `presence.pattern_of`.

    By the `missing.json` of the preprocessed or the raw dataset, else by those that nnUNetXModal_predict left beside
    predictions.

    Raises:
        XModalError: where there is none, it does not tell of every case, or two folders contradict each other.
    """
    places = []
    if dataset is not None:
        places = [Path(os.environ[variable]) / dataset for variable in ("nnUNet_preprocessed", "nnUNet_raw")]
        for folder in places:
            if (folder / MISSING_FILE).is_file():
                return patterns_of(cases, read_missing(folder))
    missing: dict[str, list[str]] = {}
    for model in models:
        if model.is_cross_validation:
            continue
        file = model.folder / MISSING_FILE
        places.append(model.folder)
        for case, names in _told(file, cases).items() if file.is_file() else ():
            if missing.setdefault(case, names) != names:
                raise XModalError(
                    f"{file} says that {case} lacks {', '.join(names) or 'nothing'}, and another folder of predictions "
                    f"{', '.join(missing[case]) or 'nothing'}: compare predictions of the same images."
                )
    if set(cases) <= set(missing):
        return patterns_of(cases, missing)
    raise XModalError(
        f"--by presence finds no {MISSING_FILE} that tells what cases lack in {' or '.join(map(str, places))}: leave "
        "it out where all have every channel."
    )


def _told(file: Path, cases: Sequence[str]) -> dict[str, list[str]]:
    """Return what a folder of predictions tells of these cases."""
    try:
        content = read_json(file)
        return {case: list(content[case]["missing_channels"]) for case in cases}
    except (KeyError, TypeError) as error:
        raise XModalError(f"{file} does not tell of every case ({error!r}): predict again.") from error


def presence_table(contents: ReportContents, patterns: Mapping[str, str]) -> pd.DataFrame:
    """Return a row per pattern, label and model: how many cases there are, and the means of the main metrics.

    Args:
        patterns: case → pattern.
    """
    names = {metric.name: metric for metric in contents.main_metrics}
    of_cases = contents.cases["case"].map(patterns)
    tables = []
    for pattern in sorted(of_cases.unique(), key=lambda pattern: (pattern != COMPLETE, pattern)):
        cases = contents.cases[of_cases == pattern]
        summary = summarise(cases, names)
        means = summary.pivot(index=["label", "model"], columns="metric", values="mean")
        order = summary[["label", "model"]].drop_duplicates()
        means = means.reindex(index=pd.MultiIndex.from_frame(order), columns=list(names)).reset_index()
        means.insert(0, "presence", pattern)
        means.insert(3, "cases", cases["case"].nunique())
        tables.append(means)
    table = pd.concat(tables, ignore_index=True)
    return table.rename(columns={name: f"{metric.name} (mean)" for name, metric in names.items()})
