"""Files that are there in full or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: str | Path, write: Callable[[str], None]) -> None:
    """Calls `write` with a temporary name of the same ending beside `path`, then renames."""
    path = Path(path)
    # the ending stays last because image writers choose the format by it
    temporary = path.with_name(f".tmp_{os.getpid()}_{path.name}")
    try:
        write(str(temporary))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(content: object, path: str | Path) -> None:
    """Indented JSON."""

    def write(name: str) -> None:
        with open(name, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)

    write_atomically(path, write)
