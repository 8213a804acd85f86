"""Files that are there in full or not at all."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.temporary import temporary_folder

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # of disk, file and quota
_PROBE = 1 << 20  # bytes


def write_atomically(
    path: str | Path, write: Callable[[str], None], is_intact: Callable[[str], bool] | None = None
) -> None:
    """Call `write` with the same name in a temporary folder beside `path`, flush to the disk, then rename.

    In a folder of its own, because nnU-Net reads every file beside an image, and image writers choose the format by
    the ending. Whatever else `write` leaves there, such as the spacing beside a TIFF, is moved along, before `path`.

    Args:
        is_intact: tells of the temporary file whether it holds what was to be written, for writers that do not report
            a full disk.

    Raises:
        XModalError: names the file if it cannot be written, and says if the disk is full; an older file is left as it
            was, and nothing else is left behind.
    """
    path = Path(path)
    with explained(path), temporary_folder(path.parent) as folder, explained(path):
        temporary = folder / path.name
        write(str(temporary))
        written = sorted(folder.iterdir(), key=lambda file: file == temporary)
        for file in written:
            flush(file)
        if temporary not in written or is_intact is not None and not is_intact(str(temporary)):
            raise _fault_of_disk(path.parent) or OSError(errno.EIO, "what was read back is not what was written")
        for file in written:
            os.replace(file, path.parent / file.name)
        _flush_names(path.parent)


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn what goes wrong with the disk while a file or folder is written into a sentence.

    Raises:
        XModalError: names `path`, and says if the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise XModalError(_sentence(Path(path), error)) from error
    except RuntimeError as error:  # what ITK and torch raise, whatever has happened
        fault = _fault_of_disk(Path(path).parent)
        if fault is None:
            raise
        raise XModalError(_sentence(Path(path), fault)) from error


@contextmanager
def explained_if_full(folder: str | Path) -> Iterator[None]:
    """Turn any error into a sentence if nothing can be written to a folder when it comes: workers say less.

    Raises:
        XModalError: names the folder.
    """
    try:
        yield
    except XModalError:
        raise
    except Exception as error:
        fault = _fault_of_disk(Path(folder))
        if fault is None or fault.errno not in _FULL:
            raise
        raise XModalError(_sentence(Path(folder), fault)) from error


def flush(file: Path) -> None:
    """Wait until a file is on the disk; only now do some file systems tell that they are full.

    Raises:
        OSError: for a full or broken disk.
    """
    with open(file, "r+b") as stream:
        os.fsync(stream.fileno())


def _flush_names(folder: Path) -> None:
    """Make a rename last; not every system can open a folder, and not every file system can flush one."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _fault_of_disk(folder: Path) -> OSError | None:
    """Write a little to learn why a library failed that does not tell; None if that works."""
    try:
        with TemporaryFile(dir=folder) as stream:
            stream.write(os.urandom(_PROBE))  # some file systems store zeros for nothing
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error
    return None


def _sentence(path: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return (
            f"{path} could not be written because the disk is full ({reason}): free some space there, or write to "
            "another disk."
        )
    return f"{path} could not be written ({reason}): check that folder and its disk, or write to another one."


def write_json(content: object, path: str | Path) -> None:
    """Write indented JSON.

    Raises:
        XModalError: see `write_atomically`.
    """

    def write(name: str) -> None:
        with open(name, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)

    write_atomically(path, write)
