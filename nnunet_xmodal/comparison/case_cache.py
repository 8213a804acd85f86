"""Where results per case are kept between runs: a file each, named by what they were computed from."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CaseCache:
    """Files in a folder, which is made with the first one; old ones do no harm, and the folder may be deleted."""

    folder: Path

    def file(self, sources: Sequence[Path], settings: object) -> Path:
        """The file for a result of these sources; it exists if they are the same as when it was written.

        Args:
            sources: told apart by path, size and time of their last change.
            settings: anything that JSON can hold.
        """
        stamps = [(str(source.resolve()), source.stat().st_size, source.stat().st_mtime_ns) for source in sources]
        key = json.dumps([stamps, settings], sort_keys=True)
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
