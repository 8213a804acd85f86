"""`prepare.csv`: a row per case and channel, with what was done, or the sentence why not."""

import csv
from collections.abc import Iterable
from pathlib import Path

from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.csv_cells import row_as_text

COLUMNS = (
    "case",
    "channel",
    "status",
    "source",
    "size_before",
    "spacing_before",
    "resampled",
    "transform",
    "similarity_before",
    "similarity_after",
    "note",
)
FAULT = "fault"


def fault_row(case: str, sentence: str) -> dict:
    """Return a row of what was not done."""
    return {"case": case, "channel": "", "status": FAULT, "note": sentence}


def write_report(rows: Iterable[dict], file: Path) -> None:
    """Write a CSV with COLUMNS, those that a row lacks left empty."""

    def write(name: str) -> None:
        with open(name, "w", newline="", encoding="utf-8") as opened:
            table = csv.DictWriter(opened, COLUMNS, restval="", lineterminator="\n")
            table.writeheader()
            table.writerows(map(row_as_text, rows))

    write_atomically(file, write)
