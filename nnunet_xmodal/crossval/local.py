"""Jobs on this machine: as many at once as there are slots, each slot with GPUs of its own."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import sleep, time

from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.job_start import JobStart, start_of
from nnunet_xmodal.crossval.live_table import LiveTable
from nnunet_xmodal.crossval.process_group import kill_group, of_its_own
from nnunet_xmodal.crossval.share_of_cores import VARIABLE, share_of
from nnunet_xmodal.crossval.supervised import START
from nnunet_xmodal.files.training_log import lines_of, log_files, parse_training_log

Slot = str | None
"""A value of CUDA_VISIBLE_DEVICES; None leaves the environment as it is."""

NOT_STARTED = -1

_POLL = 1.0  # seconds
_SUPERVISOR = START  # tests put another one here


@dataclass
class _Running:
    job: Job
    slot: Slot
    process: subprocess.Popen
    began: float

    @property
    def is_starting(self) -> bool:
        """Return whether nnU-Net still writes what folds share: plans, dataset.json and unpacked data."""
        new = [file for file in log_files(self.job.folder) if file.stat().st_mtime >= self.began]
        log = parse_training_log(lines_of(new))
        return not log.epochs and not log.predicted


def run_locally(waves: Sequence[Sequence[Job]], slots: Sequence[Slot], table: LiveTable) -> dict[Job, int]:
    """Run what is not finished; a job that fails does not stop the others.

    Args:
        waves: the stages of a cascade; a stage begins when the one before has ended.

    Returns:
        The exit status of every job, see `run_job`; NOT_STARTED where a fold of its previous stage did not finish.

    Raises:
        KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM, when all trainings have been stopped.
    """
    statuses: dict[Job, int] = {}
    with _signals_as_exits(), table:
        for wave in waves:
            unfinished = [job for job, status in statuses.items() if status]
            skipped = [job for job in wave if any(job.reads(other) for other in unfinished)]
            for job in skipped:
                statuses[job] = NOT_STARTED
                table.skipped(job)
            statuses.update(_run_wave([job for job in wave if job not in skipped], slots, table))
    return statuses


@contextmanager
def _signals_as_exits() -> Iterator[None]:
    """Let SIGTERM and a closed terminal stop trainings as Ctrl-C does; `nohup` stays in force."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has one
    changed = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _run_wave(jobs: Sequence[Job], slots: Sequence[Slot], table: LiveTable) -> dict[Job, int]:
    statuses = {job: 0 for job in jobs if start_of(job) is JobStart.FINISHED}
    waiting = [job for job in jobs if job not in statuses]
    free = list(slots)
    running: list[_Running] = []
    try:
        while waiting or running:
            for run in [run for run in running if run.process.poll() is not None]:
                running.remove(run)
                free.append(run.slot)
                statuses[run.job] = run.process.returncode
                table.ended(run.job, run.process.returncode, _last_words(run.process))
            for job in [job for job in waiting if not _would_race(job, running)][: len(free)]:
                if _would_race(job, running):
                    continue
                waiting.remove(job)
                running.append(_start(job, free.pop(0), min(len(slots), len(running) + len(waiting) + 1)))
                table.started(job)
            table.refresh()
            sleep(_POLL)
    finally:
        _stop(running)
    return statuses


def _would_race(job: Job, running: Sequence[_Running]) -> bool:
    """Return whether a job has to wait: the first fold of a model starts alone, as it writes files that folds share."""
    if (job.model_folder / "plans.json").is_file():
        return False
    shared = job.dataset, job.configuration
    return any((run.job.dataset, run.job.configuration) == shared and run.is_starting for run in running)


def _start(job: Job, slot: Slot, trainings: int) -> _Running:
    environment = dict(os.environ)
    if slot is not None:
        environment["CUDA_VISIBLE_DEVICES"] = slot
    elif trainings > 1:
        environment[VARIABLE] = str(share_of(trainings))
    began = time()
    process = subprocess.Popen(
        [*_SUPERVISOR, json.dumps(job.as_dict())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        # Ctrl-C goes to the scheduler alone, which then stops its jobs
        **of_its_own(),
    )
    return _Running(job, slot, process, began)


def _last_words(supervisor: subprocess.Popen) -> str:
    """Wait for a supervisor and return why it could not begin, if so; end the training of one that was killed."""
    assert supervisor.stdout is not None and supervisor.stderr is not None  # pipes, see `_start`
    status, group, words = supervisor.wait(), supervisor.stdout.read(), supervisor.stderr.read()
    number = re.search(r"\d+", group)
    if status < 0 and number:
        kill_group(int(number[0]))
    return words.strip()


def _stop(running: Sequence[_Running]) -> None:
    for run in running:
        assert run.process.stdin is not None  # a pipe, see `_start`
        with suppress(OSError):
            run.process.stdin.close()
    for run in running:
        _last_words(run.process)
