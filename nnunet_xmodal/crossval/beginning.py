"""How a job begins, by what it left on disk: anew, with `--c`, with `--val`, or not at all."""

import zipfile
import zlib
from enum import Enum
from pathlib import Path

from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.files.json_files import read_json

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
"""In the order in which nnU-Net's `--c` looks for them, newest first."""

SET_ASIDE = ".unreadable"

# what zipfile raises for files that were cut off or overwritten in places
_BROKEN = (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)


class Beginning(Enum):
    """The value is what is added to the stock command."""

    NEW = ()
    CONTINUE = ("--c",)
    VALIDATE = ("--val",)
    FINISHED = None


def beginning_of(job: Job) -> Beginning:
    """Return how a job begins; nothing is changed, and checkpoints that are cut off count as absent."""
    final, *older = (is_intact(job.folder / name) for name in CHECKPOINTS)
    if final:
        return Beginning.FINISHED if has_results(job) else Beginning.VALIDATE
    return Beginning.CONTINUE if any(older) else Beginning.NEW


def is_intact(checkpoint: Path, thorough: bool = False) -> bool:
    """Return whether a checkpoint is there in full. torch writes zip files, whose directory comes last.

    Args:
        thorough: also compares every checksum, which takes as long as reading the file.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return not thorough or archive.testzip() is None
    except _BROKEN:
        return False


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
    """Rename the summary of a training that begins again, or it would pass for the result of the new one.

    Returns:
        Its new path, `summary.json.outdated`, if there was one.
    """
    summary = job.folder / "validation" / "summary.json"
    if not summary.is_file():
        return None
    return summary.replace(summary.with_name(summary.name + ".outdated"))


def unreadable(job: Job, thorough: bool = False) -> list[Path]:
    """Return the checkpoints that would make `--c` and `--val` die; nnU-Net skips those older than an intact one.

    Raises:
        OSError: for a checkpoint that may be intact but that this user must not read.
    """
    found = []
    for name in CHECKPOINTS:
        checkpoint = job.folder / name
        if checkpoint.is_file():
            checkpoint.open("rb").close()
            if is_intact(checkpoint, thorough):
                break
            found.append(checkpoint)
    return found


def set_aside_unreadable(job: Job) -> list[Path]:
    """Rename what `unreadable` finds, so that nnU-Net falls back to the next older checkpoint.

    Returns:
        Their new paths, `checkpoint_latest.pth.unreadable`; nothing is deleted.
    """
    return [file.replace(file.with_name(file.name + SET_ASIDE)) for file in unreadable(job, thorough=True)]
