"""One command at a time for every output: the second one says who is at it, and writes nothing."""

from __future__ import annotations

import atexit
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.lock_file import ENDING, lock_of
from nnunet_xmodal.files.temporary import sweep
from nnunet_xmodal.processes import terminate_workers

if TYPE_CHECKING:
    from filelock import FileLock

Lock: TypeAlias = "int | FileLock"
"""A descriptor, or filelock's on Windows, where fcntl is not there."""

_SHOWN = 160  # characters of the other command
_claims: dict[Path, tuple[int, int | None]] = {}
"""Files of claims → the process that opens them, and their descriptor once there is one; until they are removed."""


def is_claim(file: Path) -> bool:
    """Return whether a file is this module's, which is there while a command writes (or was killed)."""
    return file.name.startswith(".") and file.name.endswith(ENDING)


@contextmanager
def claimed(folder: str | Path, part: str = "") -> Iterator[None]:
    """Hold a folder as the output of this command; make it, and remove it again if it stays empty.

    The claim is a lock of the operating system on a hidden file in the folder, so that it ends with its owner, however
    that ends. Temporary folders that killed commands have left there are removed; after an error so are those of this
    command's workers, which are ended first.

    Args:
        part: for commands that share a folder, as the parts of a prediction do: which one this is.

    Raises:
        XModalError: if another command holds the folder (for another part is no hindrance), or if it cannot be written.
    """
    folder = Path(folder)
    made: list[Path] = []
    try:
        lock = _begin(folder, part, made)
        try:
            sweep(folder, below=True)
            yield
        except BaseException:
            terminate_workers()
            sweep(folder, below=True)
            raise
        finally:
            _end(folder, part, lock)
    finally:
        for path in reversed(made):
            with suppress(OSError):  # not empty: something was written
                path.rmdir()


def _begin(folder: Path, part: str, made: list[Path]) -> Lock | None:
    try:
        _make(folder, made)
        lock = _locked(folder / _name(part))
        if lock is None:  # a file system without locks
            return None
        try:
            _check_other_parts(folder, part)
            if isinstance(lock, int):  # Windows lets nobody else read a file that is locked
                os.ftruncate(lock, 0)
                os.write(lock, json.dumps(_ourselves()).encode())
        except BaseException:
            _end(folder, part, lock)
            raise
        return lock
    except OSError as error:
        reason = error.strerror or str(error)
        raise XModalError(
            f"{folder} cannot be written ({reason}): see to its permissions and the room on that disk, or give another "
            "folder."
        ) from error


def _make(folder: Path, made: list[Path]) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise XModalError(f"{folder} is a file: give a folder for the output.")
    if folder.parent != folder:
        _make(folder.parent, made)
    with suppress(FileExistsError):
        folder.mkdir()
        made.append(folder)


def _name(part: str) -> str:
    return f".{part}{ENDING}"


def _locked(file: Path, make: bool = True) -> Lock | None:
    """Open and lock; None where the file system has no locks, or no file and none to be made.

    Raises:
        XModalError: if another process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return _locked_elsewhere(file) if make or file.exists() else None
    while True:
        _claims[file] = os.getpid(), None  # before it is opened: a signal may come at any moment
        try:
            descriptor = _opened(file, make)
        except OSError as error:
            del _claims[file]
            if make or not isinstance(error, FileNotFoundError):
                raise
            return None
        _claims[file] = os.getpid(), descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _close(file, descriptor)
            raise XModalError(_taken(file)) from None
        except OSError:  # a file system without locks
            _close(file, descriptor)
            return None
        if _is_still(file, descriptor):
            return descriptor
        _close(file, descriptor)  # its owner has just ended and removed it


def _close(file: Path, descriptor: int) -> None:
    os.close(descriptor)
    _claims.pop(file, None)


def _locked_elsewhere(file: Path) -> FileLock | None:
    try:
        return lock_of(file)
    except BlockingIOError:
        raise XModalError(_taken(file)) from None


def _opened(file: Path, make: bool) -> int:
    flags = os.O_RDWR | (os.O_CREAT if make else 0)
    try:
        return os.open(file, flags, 0o666)
    except PermissionError:
        if not file.exists():
            raise
        with suppress(XModalError):  # a file that another user's killed command has left
            _remove_if_left(file)
        return os.open(file, flags, 0o666)


def _remove_if_left(file: Path) -> None:
    import fcntl

    descriptor = os.open(file, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink()
    except BlockingIOError:
        raise XModalError(_taken(file)) from None
    finally:
        os.close(descriptor)


def _is_still(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _check_other_parts(folder: Path, part: str) -> None:
    """The whole excludes every part, and a part the whole."""
    others = [folder / _name("")] if part else [file for file in folder.iterdir() if is_claim(file)]
    for other in others:
        if other.name != _name(part):
            _release(other, _locked(other, make=False))


def _end(folder: Path, part: str, lock: Lock | None) -> None:
    _release(folder / _name(part), lock)


def _release(file: Path, lock: Lock | None) -> None:
    """Give a lock up and remove its file."""
    if isinstance(lock, int):
        with suppress(OSError):
            os.unlink(file)  # while it is locked, so that it is nobody else's
        _close(file, lock)
    elif lock is not None:
        lock.release()
        with suppress(OSError):  # Windows removes no file that somebody else has open
            os.unlink(file)


@atexit.register
def _release_again() -> None:
    """Remove the claims that a signal has kept this process from removing."""
    for file, (owner, descriptor) in list(_claims.items()):
        with suppress(OSError, XModalError):  # closed, or somebody else's by now
            if owner == os.getpid() and descriptor is None:
                _remove_if_left(file)
            elif owner == os.getpid() and descriptor is not None and _is_still(file, descriptor):
                import fcntl

                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _release(file, descriptor)


def _ourselves() -> dict[str, str | int]:
    command = shlex.join([Path(sys.argv[0] or "python").name, *sys.argv[1:]])
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "command": command if len(command) <= _SHOWN else f"{command[:_SHOWN]}…",
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _taken(file: Path) -> str:
    owner = "another command"
    for _ in range(5):  # it may be about to write
        try:
            claim = json.loads(file.read_text(encoding="utf-8"))
            owner = f"process {claim['process']} on {claim['host']} since {claim['since']} ({claim['command']})"
            break
        except (OSError, ValueError, KeyError):
            time.sleep(0.05)
    return f"{file.parent} is being written by {owner}: wait until that has ended, or give another output."
