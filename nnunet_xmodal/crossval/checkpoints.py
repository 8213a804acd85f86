"""The checkpoints of a job: which can be read, and which make way for an older one."""

import zipfile
import zlib
from pathlib import Path

from nnunet_xmodal.crossval.job import Job

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
"""In the order in which nnU-Net's `--c` looks for them, newest first."""

SET_ASIDE = ".unreadable"

# what zipfile raises for files that were cut off or overwritten in places
_BROKEN = (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)


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


def unreadable_checkpoints(job: Job, thorough: bool = False) -> list[Path]:
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
    """Rename what `unreadable_checkpoints` finds, so that nnU-Net falls back to the next older checkpoint.

    Returns:
        Their new paths, `checkpoint_latest.pth.unreadable`; nothing is deleted.
    """
    return [file.replace(file.with_name(file.name + SET_ASIDE)) for file in unreadable_checkpoints(job, thorough=True)]
