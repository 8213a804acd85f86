"""Temporary folders that carry their owner's name, so that what a killed process leaves is swept by the next one."""

import atexit
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:32] or "host"  # sockets in it may have 108 characters
_NAME = re.compile(r"\.tmp_(?P<host>[A-Za-z0-9-]+)\.(?P<pid>\d+)\.\w+")
_TRIES = 5
_in_use: set[str] = set()
_swept: set[tuple[int, str]] = set()


@contextmanager
def temporary_folder(place: str | Path | None = None) -> Iterator[Path]:
    """Make a folder `.tmp_<host>.<process>.<random>` and remove it afterwards.

    Of folders in the same place those of dead processes are removed, too.

    Args:
        place: where; the system's folder for temporary files by default.
    """
    place = str(place or tempfile.gettempdir())
    if (os.getpid(), place) not in _swept:  # once: a dataset's folder has thousands of files
        _swept.add((os.getpid(), place))
        sweep(place)
    owner = os.getpid()
    folder = tempfile.mkdtemp(prefix=f".tmp_{_HOST}.{owner}.", dir=place)
    _in_use.add(folder)
    try:
        yield Path(folder)
    finally:
        _in_use.discard(
            folder
        )  # first: what interrupts the removal leaves it to the next sweep, at the latest at the end
        if os.getpid() == owner:  # a fork that ends, or forgets, removes nothing
            for _ in range(_TRIES):  # a process that is just ending may still make a socket in it
                shutil.rmtree(folder, ignore_errors=True)
                if not os.path.exists(folder):
                    break
                time.sleep(0.02)


@atexit.register
def _sweep_again() -> None:
    """Remove what was made when a signal came, or whose removal a signal has interrupted."""
    for pid, place in _swept:
        if pid == os.getpid():
            sweep(place)


def sweep(place: str | Path, below: bool = False) -> None:
    """Remove temporary folders whose process, on this machine, is gone.

    Args:
        below: in all folders below `place` as well.
    """
    for folder, names, _ in os.walk(place):
        for name in [name for name in names if name.startswith(".tmp_")]:
            names.remove(name)
            path = os.path.join(folder, name)
            if _is_left(name, path):
                shutil.rmtree(path, ignore_errors=True)
        if not below:
            return


def _is_left(name: str, path: str) -> bool:
    match = _NAME.fullmatch(name)
    if match is None or match["host"] != _HOST:
        return False
    pid = int(match["pid"])
    if pid == os.getpid():  # of an earlier process with our number: in containers it is often the same
        return path not in _in_use
    return not is_alive(pid)


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine runs; True where that cannot be asked."""
    if os.name == "nt":  # there os.kill ends what it is asked about
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    try:  # in containers without an init nobody fetches the status of orphans that have ended
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in "ZX"
