"""What a Slurm job runs: one fold, which goes back into the queue when its time is up."""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import sleep, time

from submitit.helpers import DelayedSubmission

from nnunet_xmodal.crossval.checkpoints import CHECKPOINTS
from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.live_table import log_tail
from nnunet_xmodal.crossval.owner import owner_of
from nnunet_xmodal.crossval.supervised import RUNS_ELSEWHERE, START
from nnunet_xmodal.crossval.whole_files import check_inputs
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.training_log import read_training_log

_UNTIL_LOG = 60  # seconds until a job that Slurm has started writes into its log
_SILENCE = 300  # and without another line there: importing torch from a cold file system takes minutes
_WAIT_FOR_SLURM = 900


class SlurmFold:
    """A callable with submitit's `checkpoint`, which is called shortly before Slurm ends the job.

    Args:
        environment: variables to set, for clusters where a job does not inherit them.
        minutes: the job's time limit.
        leader: another fold of the same model, which has to write the files that folds share before this one starts.
        inputs: files that the training reads, looked at here, where they may lie on other disks than where the job was
            submitted.
    """

    inputs: Sequence[Path] = ()  # of jobs that were submitted before there were any

    def __init__(
        self,
        job: Job,
        environment: dict[str, str],
        minutes: int,
        leader: Job | None = None,
        inputs: Sequence[Path] = (),
    ) -> None:
        self.inputs = tuple(inputs)
        self.job, self.environment, self.minutes, self.leader = job, environment, minutes, leader
        self._process: subprocess.Popen | None = None
        self._is_being_ended = False
        self._began = 0.0
        self._before: list[int | None] | None = None

    def __call__(self) -> None:
        """Run the fold, as a process that outlives this one and stops the training.

        Raises:
            RuntimeError: with the end of the job's log if it failed, so that Slurm shows it as failed.
            XModalError: for an input that is missing or cut off; the log says so, too.
        """
        os.environ.update(self.environment)
        signal.signal(signal.SIGTERM, self._on_term)
        self._began, self._before = time(), self._checkpoints()
        self._check_inputs()
        self._wait_for_leader()
        # A process between this one and the training, because it outlives a SIGKILL here and still stops the training.
        self._process = subprocess.Popen(
            [*START, json.dumps(self.job.as_dict())],
            stdin=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_ignore_the_notice,
        )
        status = self._process.wait()
        if status and self._is_being_ended:
            # A job that leaves during the grace time of a preemption counts as failed and would not be requeued.
            sleep(_WAIT_FOR_SLURM)
        if status:
            why = f"is being trained by {owner_of(self.job)}" if status == RUNS_ELSEWHERE else f"ended with {status}"
            raise RuntimeError(f"{self.job.name} {why}; the end of {self.job.log}:\n{log_tail(self.job)}")

    def checkpoint(self) -> DelayedSubmission:
        """Stop the training; submitit then puts the job back into the queue, and it begins with `--c`.

        Raises:
            RuntimeError: if the whole time limit passed without a new checkpoint: it would pass again and again.
        """
        self._stop()
        if self._is_out_of_time() and self._checkpoints() == self._before:
            reason = "the time limit passed without a new checkpoint: not continued, give more --time"
            self.job.folder.mkdir(parents=True, exist_ok=True)
            with open(self.job.log, "a", encoding="utf-8") as log:
                print(reason, file=log)
            raise RuntimeError(f"{self.job.name}: {reason}")
        return DelayedSubmission(SlurmFold(self.job, self.environment, self.minutes, self.leader, self.inputs))

    def _on_term(self, *_: object) -> None:
        """Slurm ends the job, all processes of the training included, and decides what becomes of it."""
        self._is_being_ended = True

    def _stop(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None  # a pipe, see `__call__`
        self._process.stdin.close()
        # Not Popen.wait, which this call may have interrupted while it holds its lock: we are in a signal handler.
        with suppress(ChildProcessError):
            os.waitpid(self._process.pid, 0)

    def _is_out_of_time(self) -> bool:
        """Out of time and not preempted, told apart in submitit's way."""
        limit = 60 * self.minutes
        return time() - self._began >= min(0.8 * limit, limit - 600)

    def _check_inputs(self) -> None:
        try:
            check_inputs(self.inputs)
        except XModalError as error:
            self.job.folder.mkdir(parents=True, exist_ok=True)
            with open(self.job.log, "a", encoding="utf-8") as log:
                print(error, file=log)
            raise

    def _checkpoints(self) -> list[int | None]:
        files = (self.job.folder / name for name in CHECKPOINTS)
        return [file.stat().st_mtime_ns if file.is_file() else None for file in files]

    def _wait_for_leader(self) -> None:
        """Until its training is under way, or it has been silent for so long that it must have failed."""
        while self.leader is not None:
            log = read_training_log(self.leader.folder)
            if log.epochs or log.predicted:
                return
            last = self.leader.log.stat().st_mtime if self.leader.log.is_file() else 0
            if time() > max(last + _SILENCE, self._began + _UNTIL_LOG):
                return
            sleep(1)


def _ignore_the_notice() -> None:
    """Slurm sends its notice to every process of a job; only submitit's is to act on it. exec keeps what is ignored."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
