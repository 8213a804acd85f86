"""A locked file where Python has no fcntl, which is Windows: by filelock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import FileLock

ENDING = ".nnUNetXModal.lock"


def lock_of(file: Path) -> FileLock | None:
    """Make and lock a file; None where the file system has no locks.

    Raises:
        BlockingIOError: if another process has it, as from fcntl.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(f"{file} is locked") from None
    except NotImplementedError:  # a file system without locks
        return None
    return lock
