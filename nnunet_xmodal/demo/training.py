"""Trainings of the demo, one after the other or some at once in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from nnunet_xmodal.crossval.checkpoints import SET_ASIDE, is_intact
from nnunet_xmodal.crossval.share_of_cores import share_of
from nnunet_xmodal.demo.in_process import loading_in_this_thread, pools_of_threads
from nnunet_xmodal.demo.progress import Progress, clock, printing_to
from nnunet_xmodal.demo.settings import PLANS, Demo, read_json
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.environment import usable_cores
from nnunet_xmodal.processes import tied_workers

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Job:
    """A training that is not finished.

    Attributes:
        checkpoints: that an interrupted call has left and that can be read.
    """

    fold: int
    trainer: str
    checkpoints: Sequence[str] = ()

    @property
    def validates_only(self) -> bool:
        """Return whether only the validation is missing."""
        return "checkpoint_final.pth" in self.checkpoints

    def __str__(self) -> str:
        verb = "validating" if self.validates_only else "continuing" if self.checkpoints else "training"
        return f"{verb} {self.trainer}, fold {self.fold}"


@dataclass(frozen=True)
class Trained:
    """The outcome of a job.

    Attributes:
        seconds: that it took.
        dice: nnU-Net's mean over labels and validation cases; None if the training failed.
        failure: the sentence of an XModalError, or the last line of a traceback that stands in the log.
    """

    job: Job
    seconds: float
    dice: float | None
    failure: str = ""


def train_all(demo: Demo, progress: Progress, device: torch.device) -> None:
    """Train fold after fold, all trainers on each: an interrupted demo holds comparable trainings.

    Raises:
        XModalError: if a training fails; those that were finished stay.
    """
    os.environ["nnUNet_n_proc_DA"] = "0"  # no loader processes; planning would fail with this value
    todo = [(fold, trainer) for fold in range(demo.folds) for trainer in demo.trainers]
    unfinished = [(fold, trainer) for fold, trainer in todo if not _is_finished(demo.fold(trainer, fold))]
    if len(unfinished) < len(todo):
        progress.say(f"{len(todo) - len(unfinished)} of {len(todo)} trainings were finished before: skipped")
    jobs = [Job(fold, trainer, _readable_checkpoints(demo.fold(trainer, fold))) for fold, trainer in unfinished]
    processes = min(processes_of(demo, device.type), len(jobs))
    if processes > 1:
        progress.say(f"training {len(jobs)} models, {processes} at once")
    finished: list[Trained] = []
    for trained in _side_by_side(jobs, demo, progress, device, processes):
        finished.append(trained)
        if trained.dice is None:
            raise XModalError(f"{trained.job} failed: {trained.failure.rstrip('.')}. More is in {progress.log_file}.")
        left = [job.trainer for job in jobs if job not in [other.job for other in finished]]
        text = f"{trained.job} ({len(finished)} of {len(jobs)}): {trained.seconds:.0f} s, Dice {100 * trained.dice:.1f}"
        remaining = clock(_estimate(left, finished) / processes)
        progress.say(f"{text}, about {remaining} of training left" if left else f"{text}, last training")


def processes_of(demo: Demo, device_type: str) -> int:
    """Return how many trainings run at once: what the demo says, else two on a CPU with several cores."""
    if demo.processes is not None:
        return demo.processes
    return 2 if device_type == "cpu" and usable_cores() > 1 else 1


def _side_by_side(
    jobs: list[Job], demo: Demo, progress: Progress, device: torch.device, processes: int
) -> Iterator[Trained]:
    """Yield the jobs as they are finished."""
    if processes < 2:
        for job in jobs:
            yield _train(job, demo, device, progress.log_file)
        return
    # spawned, because a fork of a process that has used torch, CUDA or blosc can hang
    context = multiprocessing.get_context("spawn")
    waiting = iter(jobs)
    connections: list[Connection] = []
    workers: list[BaseProcess] = []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        arguments = (theirs, demo, device, progress.log_file, share_of(processes))
        workers.append(context.Process(target=_work, args=arguments, daemon=True))
        with tied_workers():
            workers[-1].start()
        theirs.close()
        connections.append(ours)
        ours.send(next(waiting))
    try:
        while connections:
            ready = wait(connections)
            for connection in [connection for connection in connections if connection in ready]:
                try:
                    yield connection.recv()
                except EOFError as error:
                    raise XModalError(f"a process that trained has ended: look into {progress.log_file}.") from error
                following = next(waiting, None)
                connection.send(following)
                if following is None:
                    connections.remove(connection)
    finally:
        for worker in workers:
            if connections:  # stopped early
                worker.terminate()
            worker.join()


def _work(connection: Connection, demo: Demo, device: torch.device, log_file: Path, threads: int) -> None:
    """Train what arrives, until None does or the demo is gone."""
    import torch

    torch.set_num_threads(threads)
    try:
        while (job := connection.recv()) is not None:
            connection.send(_train(job, demo, device, log_file))
    except (EOFError, OSError):  # the demo is gone
        return


def _train(job: Job, demo: Demo, device: torch.device, log_file: Path) -> Trained:
    began, dice, failure = monotonic(), None, ""
    with printing_to(log_file):
        try:
            from nnunetv2.run.run_training import run_training

            with pools_of_threads(), loading_in_this_thread():
                run_training(
                    demo.dataset_name,
                    demo.trained_configuration,
                    job.fold,
                    demo.of_length(job.trainer),
                    PLANS,
                    continue_training=bool(job.checkpoints) and not job.validates_only,
                    only_run_validation=job.validates_only,
                    device=device,
                )
            summary = read_json(demo.fold(job.trainer, job.fold) / "validation" / "summary.json")
            dice = summary["foreground_mean"]["Dice"]
        except Exception as error:
            traceback.print_exc()
            failure = str(error) or type(error).__name__
    return Trained(job, monotonic() - began, dice, failure)


def _is_finished(fold: Path) -> bool:
    try:
        summary = read_json(fold / "validation" / "summary.json")
    except (OSError, ValueError):  # absent, or cut off when the validation was interrupted
        return False
    return "foreground_mean" in summary and (fold / "checkpoint_final.pth").is_file()


def _readable_checkpoints(fold: Path) -> tuple[str, ...]:
    """Name a fold's checkpoints; those that stock trainers were interrupted in writing are set aside."""
    readable = []
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth"):
        path = fold / name
        if path.is_file():
            path.open("rb").close()  # one that may not be read is left where it is
            if is_intact(path, thorough=True):
                readable.append(name)
            else:
                path.replace(path.with_name(path.name + SET_ASIDE))
    return tuple(readable)


def _estimate(left: Sequence[str], finished: Sequence[Trained]) -> float:
    """Return seconds for the trainings that are left; one that was not timed yet counts like the slowest that was."""
    seconds: dict[str, list[float]] = {}
    for trained in finished:
        seconds.setdefault(trained.job.trainer, []).append(trained.seconds)
    means: Mapping[str, float] = {trainer: sum(values) / len(values) for trainer, values in seconds.items()}
    return sum(means.get(trainer, max(means.values())) for trainer in left)
