"""Trainers that need every channel are refused before the first job, where the cases of its fold lack some."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.job_start import JobStart, start_of
from nnunet_xmodal.crossval.waves import trainer_class
from nnunet_xmodal.datasets.presence import read_missing
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.trainers.base.names import needs_every_channel


def check_takes_incomplete_cases(
    jobs: Sequence[Job], split: Mapping[int | str, Mapping[str, Sequence[str]]], preprocessed: Path
) -> None:
    """Check that trainers of this package take the cases of their folds.

    nnU-Net's own do not know that a channel of zeros is no image, and train.

    Args:
        split: fold → "train" and "val" → cases.
        preprocessed: folder of the dataset.

    Raises:
        XModalError: for the first that needs channels which a case lacks.
    """
    missing = read_missing(preprocessed)
    for job in jobs if missing else ():
        lacking = sorted(case for case in {*split[job.fold]["train"], *split[job.fold]["val"]} if case in missing)
        if not lacking or start_of(job) is JobStart.FINISHED:
            continue
        if not getattr(trainer_class(job.trainer), "takes_incomplete_cases", True):
            raise XModalError(
                needs_every_channel(job.trainer, len(lacking), lacking[0], " and ".join(missing[lacking[0]]))
            )
