"""Folders that commands read from and write to are looked at before anything is read or written."""

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


def check_apart(output: str | Path, images: str | Path) -> None:
    """Check that results are not written among the images, for which the next call would take them.

    Raises:
        XModalError: where both are one folder.
    """
    if Path(output).is_dir() and Path(images).is_dir() and Path(output).samefile(images):
        raise XModalError(
            f"-o {output} is the folder of the images, which predictions would lie among: give another one."
        )
