"""What is known of a prepared case, in `preparation/records/<case>.json`: inputs, files, a row of the report for each.

A case is done when its record says so, which is written last.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.complete import seems_complete
from nnunet_xmodal.files.json_files import read_json

FOLDER = "preparation"


@dataclass
class Record:
    """The record of one case.

    Attributes:
        fingerprint: of the inputs and settings.
        done: whether all files are there.
        split: `Tr` or `Ts`.
        files: written, relative to the dataset's folder.
        missing: names of the channels that the case lacks.
        rows: of prepare.csv.
        grid: of the whole image that `paste_back` wants: size, spacing, origin, direction.
        box: start and size of what was cropped, x, y, z; None for a whole image.
    """

    case: str
    fingerprint: str = ""
    done: bool = False
    split: str = "Tr"
    files: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    grid: dict | None = None
    box: dict | None = None

    def write(self, dataset: Path) -> None:
        """Write the record into the dataset's folder."""
        write_json(asdict(self), record_file(dataset, self.case))

    def complete(self, dataset: Path) -> bool:
        """Return whether every file of a case that is done is still there, and not cut off."""
        return self.done and all(seems_complete(dataset / file) for file in self.files)

    def delete_files(self, dataset: Path) -> None:
        """Delete the case's files."""
        for file in self.files:
            (dataset / file).unlink(missing_ok=True)


def record_file(dataset: Path, case: str) -> Path:
    """Return the file of a case's record."""
    return dataset / FOLDER / "records" / f"{case}.json"


_DATA_FILE = re.compile(r"^(?:ElementDataFile *=|data file:)(.+)$", re.MULTILINE)


def read_records(dataset: Path) -> dict[str, Record]:
    """Read the records of all cases, by name.

    Raises:
        XModalError: for a file that is none.
    """
    records = {}
    for file in sorted((dataset / FOLDER / "records").glob("*.json")):
        try:
            record = Record(**read_json(file))
        except (ValueError, TypeError) as error:
            raise XModalError(f"{file} is damaged: delete it, and its case is prepared again.") from error
        records[record.case] = record
    return records


def fingerprint_of(inputs: Sequence[Path], settings: dict) -> str:
    """Return a hash of the settings and of every input's path, size and time; a folder's are those of its files."""
    files = []
    for path in inputs:
        for file in _files_of(path):
            status = file.stat() if file.exists() else None
            files.append((str(file.absolute()), status and status.st_size, status and status.st_mtime_ns))
    return hashlib.sha256(json.dumps([settings, files], sort_keys=True).encode()).hexdigest()


def _files_of(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            return sorted(file for file in path.iterdir() if file.name[0] != ".")  # what systems leave beside files
        return [path, *_data_beside(path)]
    except PermissionError:  # said when the case is read
        return [path]


def _data_beside(header: Path) -> list[Path]:
    """The file with the voxels of a header that stands alone, `.mhd` or `.nhdr`."""
    if header.suffix.lower() not in (".mhd", ".nhdr") or not header.is_file():
        return []
    named = _DATA_FILE.search(header.read_text(encoding="utf-8", errors="replace"))
    return [header.with_name(named[1].strip())] if named else []
