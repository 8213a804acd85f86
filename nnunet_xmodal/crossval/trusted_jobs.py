"""What jobs begin with is looked at before they start: nnU-Net's own training command loads it without looking."""

from collections.abc import Iterable

from nnunet_xmodal.crossval.checkpoints import CHECKPOINTS, is_intact
from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.job_start import JobStart, start_of
from nnunet_xmodal.files.trust import is_trusted
from nnunet_xmodal.files.trusted_checkpoints import check_checkpoint


def check_trusted(jobs: Iterable[Job]) -> None:
    """Check the checkpoints that jobs go on from or validate, and pretrained weights; not with `--trust`.

    Those that are cut off are left to the job, which sets them aside.

    Raises:
        XModalError: for the first that holds what could run code.
    """
    if is_trusted():
        return
    for file in dict.fromkeys(file for job in jobs for file in _loaded(job)):
        check_checkpoint(file)


def _loaded(job: Job) -> list[str]:
    start = start_of(job)
    if start is JobStart.NEW:
        command = job.command()
        return command[command.index("-pretrained_weights") + 1 :][:1] if "-pretrained_weights" in command else []
    if start is JobStart.FINISHED:
        return []
    return [str(job.folder / name) for name in CHECKPOINTS if is_intact(job.folder / name)]
