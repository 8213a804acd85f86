"""`registration.csv`: a row per registered case."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.csv_cells import as_written, row_as_text
from nnunet_xmodal.files.tables import other_columns, read_columns
from nnunet_xmodal.tasks.registration.new_pair_errors import ERROR_COLUMNS

COLUMNS = (
    "case",
    *("tx", "ty", "tz", "ax", "ay", "az"),
    "rotation_angle",
    "centre_displacement",
    "found_angle",
    "found_displacement",
    *("centre_x", "centre_y", "centre_z"),
    "centre_from",
    "init",
    "steps",
    *ERROR_COLUMNS,
    "disagreement",
    "warning",
    "seconds_network",
    "seconds",
)
"""Of the transform in CASE.tfm, fixed → moving point: translations in mm and rotations in degrees about the centre of
the grid, the angle it turns by and how far it moves that centre; the same two of what was found beyond `init`; the
centre itself (LPS, mm) and what it was taken from. Then errors where the truth is known (`new_pair_errors`), by how
many mm folds and shifted grids disagree, and reasons to look at a case before it is used (`doubts`)."""


_DECIMAL_COMMA = re.compile(r"-?\d+,\d+([eE][-+]?\d+)?")


@dataclass
class RegistrationTable:
    """The rows of a table and their file.

    Attributes:
        rows: case → column → value.
        added: columns that somebody has added to the table; they stay, behind ours.
    """

    file: Path
    rows: dict[str, dict[str, str | float]]
    added: list[str]

    @classmethod
    def of_folder(cls, folder: Path, part: str = "") -> "RegistrationTable":
        """Read the rows that are there already, as they were written or as a spreadsheet has saved them; calls that
        share the cases write a table each.

        Raises:
            XModalError: for a table of something else.
        """
        file = Path(folder) / f"registration{part}.csv"
        rows: dict[str, dict[str, str | float]] = {}
        added = other_columns(file, COLUMNS)
        written = read_columns(file, COLUMNS[:4]) if file.is_file() else []  # case and shift
        for _, cells in written:
            row: dict[str, str | float] = {name: _with_point(cells.get(name.lower(), "")) for name in COLUMNS}
            row |= {name: as_written(cells[name.lower()]) for name in added}
            row["case"] = case = as_written(cells["case"])
            rows[case] = row
        return cls(file, rows, added)

    def add(self, row: dict[str, str | float]) -> None:
        """Add a case and write the whole table anew, sorted by case; the file is never half a table. A case that is
        there already keeps what it has in columns that are not ours.
        """
        case = str(row["case"])
        kept = {name: self.rows[case][name] for name in self.added if case in self.rows}
        self.rows[case] = kept | {name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()}
        write_atomically(self.file, self._write)

    def _write(self, name: str) -> None:
        with open(name, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*COLUMNS, *self.added], restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row_as_text(self.rows[case]) for case in sorted(self.rows))


def _with_point(cell: str) -> str:
    """Return a number with the decimal point that the others have; any other text stays."""
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell
