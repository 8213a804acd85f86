"""A job in a process of its own that outlives neither its scheduler nor leaves loader workers behind.

The scheduler starts it with the job as JSON and holds the other end of its stdin. When the scheduler ends, in whatever
way, SIGKILL included, the pipe closes, and the training goes with it. nnU-Net's loader workers do not notice that their
parent died; they share its process group, which is killed as a whole when the training has ended. Its number is printed
on stdout, so that the scheduler can do so where this process was killed itself. On Windows the system ends training and
workers with this process.

The log of a job is locked while it runs: a second scheduler leaves it alone.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

from nnunet_xmodal import discovery
from nnunet_xmodal.crossval.checkpoints import set_aside_unreadable
from nnunet_xmodal.crossval.fold_lock import locked
from nnunet_xmodal.crossval.job import Job, executable
from nnunet_xmodal.crossval.job_start import JobStart, set_aside_outdated_results, start_of
from nnunet_xmodal.crossval.process_group import of_its_own, stop_group, tie_groups
from nnunet_xmodal.crossval.share_of_cores import on_share
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.temporary import sweep

START = (sys.executable, "-m", "nnunet_xmodal.crossval.supervised")
"""Command that starts it; the job follows as JSON."""

RUNS_ELSEWHERE = 75
"""Exit status of a job that another scheduler is running; EX_TEMPFAIL of sysexits.h."""


def run_job(job: Job, hangup: int | None = None) -> int:
    """Train and validate what is not there yet; prints go to `job.log`.

    Args:
        hangup: a file descriptor; the training is stopped when it is closed on its other side.

    Returns:
        The exit status of `nnUNetv2_train`, as in a shell 128 + its number for a signal; 0 if there was nothing to do,
        1 if it left no results, RUNS_ELSEWHERE.

    Raises:
        OSError: if the job's folder cannot be written.
        XModalError: if there is no `nnUNetv2_train`.
    """
    if start_of(job) is JobStart.FINISHED:
        return 0
    job.folder.mkdir(parents=True, exist_ok=True)
    with open(job.log, "a", encoding="utf-8") as log, locked(log) as alone:
        if not alone:
            return RUNS_ELSEWHERE
        for path in set_aside_unreadable(job):
            print(f"{path.name}: not readable, set aside; the next older checkpoint is used", file=log)
        start = start_of(job)
        if start is JobStart.FINISHED:  # by the other scheduler, just now
            return 0
        if start is not JobStart.VALIDATE:
            set_aside_outdated_results(job)
        process = _start(job.command(*start.flags), log)
        try:
            for file in (sys.stdout, log):
                print(f"process group {process.pid} on {socket.gethostname()}", file=file, flush=True)
            if hangup is not None:
                threading.Thread(target=_on_end_of, args=(hangup, lambda: stop_group(process)), daemon=True).start()
            status = process.wait()
        finally:
            stop_group(process)
            sweep(tempfile.gettempdir())  # SIGTERM leaves a training no time for its folder of sockets
    if status:
        return status if status > 0 else 128 - status
    return 0 if start_of(job) is JobStart.FINISHED else 1


def _start(command: list[str], log: TextIO) -> subprocess.Popen:
    print(f"\n{datetime.now():%Y-%m-%d %H:%M:%S}  {shlex.join(command)}", file=log, flush=True)
    discovery.register()
    return subprocess.Popen(
        on_share([executable(command[0]), *command[1:]]),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        **of_its_own(),
        env={**os.environ, "PYTHONUNBUFFERED": "1"},  # or a killed training takes its last lines along
    )


def _on_end_of(descriptor: int, then: Callable[[], None]) -> None:
    while os.read(descriptor, 1):
        pass
    then()


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signal.SIGTERM)


def main() -> None:
    """Run the job of the command line, and stop it when standard input closes."""
    signal.signal(signal.SIGTERM, _leave)  # so that `finally` stops the training
    try:
        tie_groups()
        sys.exit(run_job(Job.from_dict(json.loads(sys.argv[1])), sys.stdin.fileno()))
    except (OSError, XModalError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
