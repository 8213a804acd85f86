"""Files that are there in full or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from nnunet_xmodal.files.temporary import temporary_folder


def write_atomically(path: str | Path, write: Callable[[str], None]) -> None:
    """Calls `write` with the same name in a temporary folder beside `path`, then renames.

    In a folder of its own, because nnU-Net reads every file beside an image, and image writers choose the format by
    the ending.
    """
    path = Path(path)
    with temporary_folder(path.parent) as folder:
        temporary = folder / path.name
        write(str(temporary))
        os.replace(temporary, path)


def write_json(content: object, path: str | Path) -> None:
    """Indented JSON."""

    def write(name: str) -> None:
        with open(name, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)

    write_atomically(path, write)
