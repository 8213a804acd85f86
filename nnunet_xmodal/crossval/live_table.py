"""Trainer × fold on the terminal while trainings run: epoch, loss, pseudo Dice, remaining time."""

import os
import signal
import sys
from collections.abc import Sequence
from math import isnan

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.job_start import JobStart, start_of
from nnunet_xmodal.crossval.owner import owner_of
from nnunet_xmodal.crossval.supervised import RUNS_ELSEWHERE
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.training_log import TrainingLog, read_training_log

_TAIL = 30  # lines of the log of a job that failed: a dozen may be complaints of loader threads about the failure
_TAIL_BYTES = 1 << 16


class LiveTable:
    """A context manager that draws the table in place, or, where the output is no terminal, prints a line per event."""

    def __init__(self, jobs: Sequence[Job], console: Console | None = None) -> None:
        self.jobs = list(jobs)
        self.console = console or _standard_output()
        self.cells = {job: Text(*_at_rest(job)) for job in self.jobs}
        self.running: set[Job] = set()
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_interactive else None

    def __enter__(self) -> "LiveTable":
        if self._live:
            self._live.start()
        done = sum(cell.plain.startswith("done") for cell in self.cells.values())
        self._say(f"{done} of {len(self.jobs)} trainings finished before")
        return self

    def __exit__(self, *_: object) -> None:
        self.refresh()
        if self._live:
            self._live.stop()

    def started(self, job: Job) -> None:
        """Show that a job has begun."""
        self.running.add(job)
        self._say(f"{job.name}: {_VERBS[start_of(job)]}")

    def ended(self, job: Job, status: int, words: str = "") -> None:
        """Show the result, or why a job failed: in the given words, or else the end of its log."""
        self.running.discard(job)
        self.cells[job] = Text(*_at_end(job, status))
        self._say(f"{job.name}: {self.cells[job].plain}")
        if status == RUNS_ELSEWHERE:
            self._print(f"{job.name} is being trained by {owner_of(job)}: wait until that has ended.")
        elif status:
            self._print(f"{job.name}: {words}" if words else f"the end of {job.log}:\n{log_tail(job)}")

    def skipped(self, job: Job) -> None:
        """Show that a job is not started, because the stage before it is not finished."""
        self.cells[job] = Text(f"not started: {job.previous} is not finished", "yellow")
        self._say(f"{job.name}: {self.cells[job].plain}")

    def refresh(self) -> None:
        """Draw the table anew, with what the running jobs have logged."""
        if self._live:
            for job in self.running:
                self.cells[job] = Text(describe(read_training_log(job.folder), epochs_of(job)), "cyan")
            self._live.update(self.table(), refresh=True)

    def table(self) -> Table:
        """Return a row per model, a column per fold; what all models have in common stands above."""
        folds = list(dict.fromkeys(job.fold for job in self.jobs))
        parts = {job.model: (job.trainer, job.plans, job.configuration) for job in self.jobs}
        differ = [len(set(values)) > 1 for values in zip(*parts.values())]
        differ[0] = True
        common = [value for value, differs in zip(next(iter(parts.values())), differ) if not differs]
        table = Table(title=Text(", ".join([self.jobs[0].dataset, *common])), title_justify="left")
        table.add_column("trainer", overflow="fold")  # in full: long names often differ at their ends
        for fold in folds:
            table.add_column(f"fold {fold}", overflow="fold")
        for model, values in parts.items():
            of_fold = {job.fold: cell for job, cell in self.cells.items() if job.model == model}
            name = "\n".join(value for value, differs in zip(values, differ) if differs)
            table.add_row(Text(name), *(of_fold.get(fold, "") for fold in folds))
        return table

    def _say(self, text: str) -> None:
        if not self._live:
            self._print(text)

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _standard_output() -> Console:
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # logs hold characters that not every terminal's encoding has
    # without force_terminal, FORCE_COLOR=1 would draw a live table into files and pipes
    return Console(force_terminal=sys.stdout.isatty())


_VERBS = {
    JobStart.NEW: "training",
    JobStart.CONTINUE: "continuing from its last readable checkpoint",
    JobStart.VALIDATE: "validating",
    JobStart.FINISHED: "finished before",
}


def describe(log: TrainingLog, n_epochs: int | None) -> str:
    """Describe a running training in a few words: `epoch 4/10, loss -0.31, Dice 0.52, 2:05 left`."""
    if log.predicted:
        return f"validating, case {len(log.predicted)}"
    if not log.epochs:
        return "starting"
    number = log.epochs[-1].number
    words = [f"epoch {number + 1}/{n_epochs}" if n_epochs else f"epoch {number + 1}"]
    if log.completed:
        last = log.completed[-1]
        words += [f"loss {last.train_loss:.2f}"] if last.train_loss is not None else []
        defined = [dice for dice in last.pseudo_dice if not isnan(dice)]
        words += [f"Dice {sum(defined) / len(defined):.2f}"] if defined else []
        if n_epochs and log.seconds_per_epoch is not None:
            words.append(f"{clock((n_epochs - number) * log.seconds_per_epoch)} left")
    return ", ".join(words)


def clock(seconds: float) -> str:
    """Return seconds as `h:mm:ss`, or `m:ss` below an hour."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"


def epochs_of(job: Job) -> int | None:
    """Read the length of a training that has begun, in epochs, from nnU-Net's `debug.json`."""
    try:
        return int(read_json(job.folder / "debug.json")["num_epochs"])
    except (OSError, ValueError, KeyError):
        return None


def log_tail(job: Job, lines: int = _TAIL) -> str:
    """Return the last lines that a job printed."""
    if not job.log.is_file():
        return "(nothing was printed)"
    with open(job.log, "rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
        text = log.read().decode("utf-8", errors="replace")
    return "\n".join(text.rstrip().splitlines()[-lines:])


def _at_end(job: Job, status: int) -> tuple[str, str]:
    """Text and style of a job that has ended, see `run_job`."""
    if status == 0:
        return _at_rest(job)
    if status == RUNS_ELSEWHERE:
        return "runs elsewhere", "yellow"
    number = -status if status < 0 else status - 128
    if number in set(signal.Signals):
        return f"failed ({signal.Signals(number).name})", "red"
    return f"failed ({status})", "red"


def _at_rest(job: Job) -> tuple[str, str]:
    """Text and style of a job that is not running."""
    start = start_of(job)
    if start is not JobStart.FINISHED:
        return ("waiting" if start is JobStart.NEW else "waiting, interrupted before"), "dim"
    summary = read_json(job.folder / "validation" / "summary.json")
    dice = summary["foreground_mean"].get("Dice")
    return ("done" if dice is None else f"done, Dice {dice:.3f}"), "green"
