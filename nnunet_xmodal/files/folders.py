"""Folders that commands read from and write to are looked at before anything is read or written."""

from collections.abc import Mapping
from pathlib import Path

from nnunet_xmodal.errors import XModalError


def check_input_folder(folder: str | Path) -> None:
    """Check that a folder is there.

    Raises:
        XModalError: for a file in the place of a folder, and for a folder that does not exist.
    """
    folder = Path(folder)
    if folder.is_dir():
        return
    if folder.exists():
        raise XModalError(f"{folder} is a file, but a folder is read: give the one that it lies in, {folder.parent}.")
    raise XModalError(f"the folder {folder} does not exist.")


def check_no_file(folder: str | Path) -> None:
    """Check that a folder is none of the files that lie in it; whether it is there is said by whoever reads it.

    Raises:
        XModalError: for a file in the place of a folder.
    """
    if Path(folder).is_file():
        check_input_folder(folder)


def check_output_folder(folder: str | Path, flag: str = "-o") -> None:
    """Check that a folder is one or can be made; makes nothing.

    Raises:
        XModalError: for a file in its place or in that of a folder that it would lie in.
    """
    folder = Path(folder)
    for place in (folder, *folder.absolute().parents):
        if place.is_dir():
            return
        if place.exists() or place.is_symlink():
            raise XModalError(f"{flag} {folder}: {place} is a file, but a folder is written: give another one.")


def check_apart(output: str | Path, read: Mapping[str, str | Path]) -> None:
    """Check that results are not written among files that are read: the next call would take them for such, and those
    of the same name would be lost.

    Args:
        output: folder, of the flag -o.
        read: flag → folder; what is no folder that there is, is left to whoever reads it.

    Raises:
        XModalError: where the output is one of them, or their `imagesTr` or `labelsTr`.
    """
    if not Path(output).is_dir():
        return
    for flag, folder in read.items():
        for place in (Path(folder), *(Path(folder) / part for part in ("imagesTr", "labelsTr"))):
            if place.is_dir() and Path(output).samefile(place):
                raise XModalError(
                    f"-o {output} is the folder that {flag} reads, among whose files results would lie: give another."
                )
