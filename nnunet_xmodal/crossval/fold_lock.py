"""One training at a time for every fold: a lock of the operating system, which ends with whoever holds it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from nnunet_xmodal.files.lock_file import ENDING, lock_of


@contextmanager
def locked(log: TextIO) -> Iterator[bool]:
    """Yield whether a fold, whose open log this is, is ours alone.

    A training inherits the lock with the log, and keeps it if this process is killed. On Windows nothing is inherited;
    there it ends with this process, see `windows_job`.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        with _locked_elsewhere(Path(log.name)) as alone:
            yield alone
        return
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    except OSError:  # a file system without locks
        yield True
        return
    try:
        yield True
    finally:
        fcntl.flock(log, fcntl.LOCK_UN)


@contextmanager
def _locked_elsewhere(log: Path) -> Iterator[bool]:
    """The lock of a file beside the log: Windows lets nobody else read a file that is locked."""
    file = log.with_name(f".{log.name}{ENDING}")
    try:
        lock = lock_of(file)
    except BlockingIOError:
        yield False
        return
    if lock is None:
        yield True
        return
    try:
        yield True
    finally:
        lock.release()
        with suppress(OSError):  # Windows removes no file that somebody else has open
            file.unlink()
