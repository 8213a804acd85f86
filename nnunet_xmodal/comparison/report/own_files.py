"""The files of a report, told apart from those of others that have the same names."""

from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.own_pages import is_own_page

REPORT = "report.html"
TABLES = ("cases", "summary", "statistics", "presence", "detection", "reliability", "forecast", "cost")
"""Written as CSV, where a comparison has them."""


def check_no_others(folder: Path) -> None:
    """Check that no file of somebody else has the name of one that a report writes or takes away.

    Raises:
        XModalError: for one in a folder without a report of this package.
    """
    if is_own_page(folder / REPORT):
        return
    for name in (REPORT, "summary.md", *(f"{table}.csv" for table in TABLES)):
        if (folder / name).exists():
            raise XModalError(f"{folder / name} is of no report, and one would replace it: give another -o.")
