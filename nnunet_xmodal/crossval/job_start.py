"""How a job starts, by what it left on disk: anew, with `--c`, with `--val`, or not at all."""

from enum import Enum
from pathlib import Path

from nnunet_xmodal.crossval.checkpoints import CHECKPOINTS, is_intact
from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.files.json_files import read_json


class JobStart(Enum):
    """How a job starts; the value is the flag that is added to the stock command, if any."""

    NEW = ""  # not (): Python 3.11 before 3.11.4, Debian 12's among them, takes that for no value
    CONTINUE = "--c"
    VALIDATE = "--val"
    FINISHED = None

    @property
    def flags(self) -> tuple[str, ...]:
        """Return what is added to the stock command, word by word."""
        return (self.value,) if self.value else ()


def start_of(job: Job) -> JobStart:
    """Return how a job starts; nothing is changed, and checkpoints that are cut off count as absent."""
    final, *older = (is_intact(job.folder / name) for name in CHECKPOINTS)
    if final:
        return JobStart.FINISHED if has_results(job) else JobStart.VALIDATE
    return JobStart.CONTINUE if any(older) else JobStart.NEW


def has_results(job: Job) -> bool:
    """Return whether there is a readable summary and, if the job writes probabilities, those of all its cases."""
    try:
        summary = read_json(job.folder / "validation" / "summary.json")
    except (OSError, ValueError):  # absent, or cut off: nnU-Net writes it in place
        return False
    if "foreground_mean" not in summary:
        return False
    if "--npz" not in job.flags:
        return True
    written = [file for file in (job.folder / "validation").glob("*.npz") if is_intact(file)]
    return len(written) >= len(summary["metric_per_case"])


def set_aside_outdated_results(job: Job) -> Path | None:
    """Rename the summary of a training that starts again, or it would pass for the result of the new one.

    Returns:
        Its new path, `summary.json.outdated`, if there was one.
    """
    summary = job.folder / "validation" / "summary.json"
    if not summary.is_file():
        return None
    return summary.replace(summary.with_name(summary.name + ".outdated"))
