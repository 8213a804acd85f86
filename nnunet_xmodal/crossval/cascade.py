"""The second stage of a cascade reads what the first stage predicted, for every case that it trains on or validates."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.job_start import JobStart, start_of
from nnunet_xmodal.errors import XModalError

CasesOfFolds = Mapping[int | str, Mapping[str, Sequence[str]]]
"""Fold → "train" and "val" → cases; the fold "all" has every case in both."""


def check_previous_stages(jobs: Sequence[Job], split: CasesOfFolds) -> None:
    """Check that every case of a second stage is, or will be, predicted by its first stage.

    nnU-Net would find out in a loader worker, after the first stage has been trained.

    Raises:
        XModalError: for a case that the first stage has not predicted and that none of the jobs will predict.
    """
    for job in jobs:
        if job.previous is not None:
            _check(job, [other for other in jobs if job.reads(other)], split)


def _check(job: Job, before: Sequence[Job], split: CasesOfFolds) -> None:
    assert job.previous is not None  # see `check_previous_stages`
    folder = replace(job, configuration=job.previous).model_folder / "predicted_next_stage" / job.configuration
    predicted = {file.stem for file in folder.glob("*")}
    for first in before:
        if start_of(first) is not JobStart.FINISHED:
            predicted.update(split[first.fold]["val"])
    missing = sorted({*split[job.fold]["train"], *split[job.fold]["val"]} - predicted)
    if not missing:
        return
    for first in before:
        if missing[0] in split[first.fold]["val"]:
            raise XModalError(
                f"{first.name} is finished but left no prediction of {missing[0]} in {folder}: run "
                f"{shlex.join(first.command('--val'))}."
            )
    raise XModalError(
        f"{job.configuration} reads predictions of {job.previous} for every case, and {folder} lacks {len(missing)} of "
        f"them, the first {missing[0]}: train {job.previous} on all folds, or on the fold all, and in the same command "
        "if you like."
    )
