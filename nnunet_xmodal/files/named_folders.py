"""Folders that a command line names as `FOLDER` or `NAME=FOLDER`."""

from pathlib import Path

from nnunet_xmodal.errors import XModalError


def name_and_folder(word: str, flag: str) -> tuple[str, Path]:
    """Read `NAME=FOLDER`, or name `FOLDER`; of several = the first that leaves a folder behind it counts.

    Args:
        flag: what the word was given with, for the sentence.

    Raises:
        XModalError: if no folder is named.
    """
    if Path(word).is_dir() or "=" not in word:
        return Path(word).resolve().name, Path(word)
    parts = word.split("=")
    splits = [("=".join(parts[:n]), "=".join(parts[n:])) for n in range(1, len(parts))]
    name, folder = next((split for split in splits if split[1] and Path(split[1]).is_dir()), splits[0])
    if not folder:
        raise XModalError(f"{flag} {word} names no folder: give NAME=FOLDER.")
    return name or Path(folder).resolve().name, Path(folder)
