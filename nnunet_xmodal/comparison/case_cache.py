"""Where results per case are kept between runs: a file each, named by what they were computed from."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json


@dataclass(frozen=True)
class CaseCache:
    """Files in a folder, which is made with the first one; old ones do no harm, and the folder may be deleted."""

    folder: Path

    def file(self, sources: Sequence[Path], settings: object) -> Path:
        """Return the file for a result of these sources; another one when they change.

        Args:
            sources: told apart by path, size and time of their last change.
            settings: anything that JSON can hold; the order of its keys counts, as that of regions does, which is that
                of their probabilities.
        """
        stamps = [(str(source.resolve()), source.stat().st_size, source.stat().st_mtime_ns) for source in sources]
        key = json.dumps([stamps, settings])
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def kept(file: Path, labels: Collection[str]) -> dict[str, dict] | None:
    """Read what was kept of these labels; None if nothing was, or not all of it, as after a power failure."""
    try:
        content = read_json(file)
    except (OSError, ValueError):
        return None
    is_whole = isinstance(content, dict) and set(content) == set(labels)
    return content if is_whole and all(isinstance(values, dict) for values in content.values()) else None


def recall(file: Path, labels: Collection[str]) -> dict[str, dict]:
    """Read what has just been kept.

    Raises:
        XModalError: if somebody has deleted it meanwhile.
    """
    content = kept(file, labels)
    if content is None:
        raise XModalError(f"{file} was deleted while it was needed: start again.")
    return content


def keep(content: dict[str, dict], file: Path) -> None:
    """Write what was computed of each label, for `kept`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(content, file)
