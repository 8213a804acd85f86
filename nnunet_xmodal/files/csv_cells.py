"""Text in CSV files that a spreadsheet does not take for a formula."""

from collections.abc import Mapping

import pandas as pd

_BEGIN_FORMULAS = ("=", "+", "-", "@")
_MARK = "'"
"""What spreadsheets themselves put before text, and do not show."""


def as_text(cell: object) -> object:
    """Put an apostrophe before text that a spreadsheet would compute; numbers, also written ones, stay as they are."""
    if not isinstance(cell, str) or not cell.lstrip().startswith(_BEGIN_FORMULAS) or _is_number(cell):
        return cell
    return _MARK + cell


def as_written(cell: str) -> str:
    """Undo `as_text`."""
    return cell[1:] if cell.startswith(_MARK) and as_text(cell[1:]) == cell else cell


def row_as_text(row: Mapping[str, object]) -> dict[str, object]:
    """Apply `as_text` to every value of a row."""
    return {name: as_text(value) for name, value in row.items()}


def table_as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts, headings included, are none of a spreadsheet's formulas."""
    table = table.rename(columns=as_text)
    texts = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    return table.assign(**{name: table[name].map(as_text) for name in texts})


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
