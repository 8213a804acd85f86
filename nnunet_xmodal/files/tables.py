"""Tables that people write by hand or export from a spreadsheet: any of the usual separators and encodings."""

import codecs
import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from nnunet_xmodal.errors import XModalError

SEPARATORS = (",", ";", "\t", "|")
"""In the order of preference; spreadsheets write a semicolon where the comma separates decimals."""

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Row = tuple[int, list[str]]
"""Number of the line, from 1, and its cells without the blanks around them."""


def read_rows(file: Path, fits: Callable[[list[Row]], bool]) -> list[Row]:
    """Read the rows of a table that are not empty.

    Args:
        file: in UTF-8, in UTF-16 with its mark, or else in the Western Windows encoding, as spreadsheets write them.
        fits: whether rows are what is looked for; decides which of `SEPARATORS` is the table's.

    Returns:
        Rows by the first separator with which they fit, by commas where they fit with none.

    Raises:
        XModalError: for a file that cannot be read.
    """
    try:
        text = _text(file.read_bytes())
        tables = [_rows(text, separator) for separator in SEPARATORS]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise XModalError(f"{file} cannot be read ({error}): give a CSV.") from error
    return next((rows for rows in tables if fits(rows)), tables[0])


def read_columns(file: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a table whose first line names its columns.

    Args:
        needed: columns that there have to be, in small letters.

    Returns:
        Per row the number of its line, and its cells by column in small letters.

    Raises:
        XModalError: for a file that cannot be read, has not one of the columns or has it twice, and for a row with
            more cells than columns.
    """
    rows = read_rows(file, lambda rows: bool(rows) and set(needed) <= set(_names(rows)))
    names = _names(rows) if rows else []
    for name in needed:
        if name not in names:
            raise XModalError(
                f"{file} has no column {name}: its first line has to name {', '.join(needed)}, separated by commas, "
                "semicolons or tabs."
            )
    for name in names:
        if name and names.count(name) > 1:
            raise XModalError(f"{file} has the column {name} twice: rename or delete one.")
    table = []
    for number, cells in rows[1:]:
        if any(cells[len(names) :]):
            raise XModalError(
                f"line {number} of {file} has {len(cells)} cells and the first line {len(names)}: put a cell that "
                "holds the separator in quotes."
            )
        table.append((number, dict(zip(names, [*cells, *[""] * len(names)]))))
    return table


def other_columns(file: Path, ours: Sequence[str]) -> list[str]:
    """Return the columns that somebody has added to a table of ours, as they are headed there; none where there is no
    table. Whoever writes such a table anew keeps them.

    Args:
        ours: the table's own columns, in any case.
    """
    if not file.is_file():
        return []
    known = {name.lower() for name in ours}
    rows = read_rows(file, lambda rows: bool(rows) and len(known & set(_names(rows))) > 1)
    added = {name.lower(): name for name in (rows[0][1] if rows else []) if name and name.lower() not in known}
    return list(added.values())


def _names(rows: list[Row]) -> list[str]:
    return [name.lower() for name in rows[0][1]]


def _text(raw: bytes) -> str:
    if raw.startswith(_UTF16):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="surrogateescape")  # names of files in other encodings stay what they are


def _rows(text: str, separator: str) -> list[Row]:
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, skipinitialspace=separator != "\t")
    rows: list[Row] = []
    for cells in reader:
        cells = [cell.strip() for cell in cells]
        tells_separator = not rows and len(cells) <= 2 and cells and cells[0].lower().startswith("sep=")
        if any(cells) and not tells_separator:
            rows.append((reader.line_num, cells))
    return rows


def decimal(cell: str) -> float:
    """Read a number with a point or a comma before its decimals; raises ValueError for what is none."""
    return float(cell.replace(",", "."))
