"""The one exception for what a user can cause and put right."""

from collections.abc import Sequence


class XModalError(ValueError):
    """One sentence that names the offending file or value and the way out; commands print it without a traceback."""


def first_of(faults: Sequence[str]) -> str:
    """Return the first fault, with the number of other cases that have some."""
    return faults[0] + (f" ({len(faults) - 1} other cases have faults, too.)" if len(faults) > 1 else "")
