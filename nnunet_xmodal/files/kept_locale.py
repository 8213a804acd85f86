"""ITK's reader of .vtk leaves the process in the locale "C" when it fails, and text files are then read as ASCII."""

import locale
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_locale() -> Iterator[None]:
    """Restore the locale at the end of the block."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)
