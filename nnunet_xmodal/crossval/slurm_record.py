"""Which folds are in Slurm's queue, so that giving a command twice submits nothing twice.

Asks `squeue` and not `sacct`, which needs an accounting database that small clusters lack. What is in the queue is
recognised by the name of its array, which is drawn and written down before sbatch is called: whatever happens in
between, a job that is in the queue is known.
"""

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.live_table import log_tail
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json

_WENT_ON = re.compile("DUE TO (JOB REQUEUE|PREEMPTION|NODE FAILURE)")  # earlier starts of the same job


@dataclass(frozen=True)
class Submission:
    """A fold as it was handed to Slurm.

    Attributes:
        array: the name of the Slurm job.
        index: the fold's place in the array.
        time: seconds since 1970.
        id: `12_3`, or `12` for an array of one; None until sbatch has answered.
    """

    array: str
    index: int
    time: float
    id: str | None = None


@dataclass(frozen=True)
class Queued:
    """The state of one element of an array in squeue, e.g. `12_3`, `PENDING`, `Priority`."""

    id: str
    state: str
    reason: str

    def __str__(self) -> str:
        reason = "" if self.reason in ("None", "") else f" ({self.reason})"
        return f"{self.state.lower()} as {self.id}{reason}"


class SlurmRecord:
    """One JSON file per fold in a folder, so that commands for other trainers never write the same file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, job: Job) -> Path:
        return self.folder / f"{job.model}__fold_{job.fold}.json"

    def read(self, job: Job) -> Submission | None:
        """Read how a fold was handed to Slurm; None if it was not."""
        file = self._file(job)
        return Submission(**read_json(file)) if file.is_file() else None

    def write(self, job: Job, submission: Submission) -> None:
        """Write how a fold was handed to Slurm."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(asdict(submission), self._file(job))

    def queued(self, jobs: Iterable[Job]) -> dict[Job, Queued]:
        """Return the folds that wait or run.

        Raises:
            XModalError: if squeue gives no answer.
        """
        submissions = {job: submission for job in jobs if (submission := self.read(job)) is not None}
        in_queue = _squeue({submission.array for submission in submissions.values()})
        places = {job: (submission.array, submission.index) for job, submission in submissions.items()}
        return {job: in_queue[place] for job, place in places.items() if place in in_queue}

    def last_words(self, job: Job) -> str | None:
        """Return the end of the log of a fold that has left the queue; None if sbatch never took it."""
        submission = self.read(job)
        if submission is None or submission.id is None:
            return None
        ended = f"{job.name}: Slurm job {submission.id} ended before this was finished"
        errors = self.folder / f"{submission.id}_0_log.err"
        lines = errors.read_text(encoding="utf-8", errors="replace").splitlines() if errors.is_file() else []
        if job.log.is_file() and job.log.stat().st_mtime >= submission.time:
            # what a training cannot know: that it was cancelled, or took more memory than it may
            by_slurm = [line for line in lines if line.startswith("slurmstepd") and not _WENT_ON.search(line)]
            return "\n".join([f"{ended}; the end of {job.log}:", log_tail(job), *by_slurm[-1:]])
        if lines:  # it ended before the training began, e.g. because the node does not see the folders
            return "\n".join([f"{ended}; the end of {errors}:", *lines[-15:]])
        return f"{ended}: it did not start, as an earlier stage failed or it was taken out of the queue"


def _squeue(arrays: set[str]) -> dict[tuple[str, int], Queued]:
    """(name, index) → state, of the arrays with these names."""
    if not arrays:
        return {}
    command = ["squeue", "--noheader", "--array", f"--name={','.join(sorted(arrays))}", "--format=%j|%i|%T|%r"]
    # squeue filters by SQUEUE_STATES, SQUEUE_PARTITION and so on
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    try:
        lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", None) or str(error)
        raise XModalError(f"squeue does not show the queue ({why.strip()}): give the command again later.") from error
    queued = {}
    for name, id, state, reason in (line.strip().split("|", 3) for line in lines if line.strip()):
        _, _, index = id.partition("_")
        queued[name, int(index or 0)] = Queued(id, state, reason)
    return queued
