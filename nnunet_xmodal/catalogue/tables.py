"""The catalogue as text for a terminal, and as the README's table."""

import re
from collections.abc import Iterable
from functools import partial
from textwrap import fill

from nnunet_xmodal.catalogue.entry import Entry, shortened

_WIDTH = 116
_indented = partial(fill, width=_WIDTH, initial_indent="    ", subsequent_indent="    ")


def as_text(entries: Iterable[Entry]) -> str:
    """Return a block per entry: its names, then what it is, then what it needs."""
    return "\n\n".join(_block(entry) for entry in entries)


def _block(entry: Entry) -> str:
    facts = [entry.task, entry.dimensions, f"streams: {entry.streams}"]
    facts += [f"paper: {entry.paper}"] * bool(entry.paper) + [f"needs {entry.needs}"] * bool(entry.needs)
    facts += [f"documentation/{entry.page}"] * bool(entry.page)
    names = fill("  ".join(entry.names), width=_WIDTH, break_long_words=False)
    return "\n".join([names, _indented(f"{_without_links(entry.what)}."), _indented("; ".join(facts))])


def as_markdown(entries: Iterable[Entry]) -> str:
    """Return a table with a row per entry."""
    rows = ["| trainer | what | streams | paper |", "|---|---|---|---|"]
    for entry in entries:
        names = ", ".join(f"`{name}`" for name in shortened(entry.names))
        paper = f"[{entry.paper}](documentation/{entry.page})" if entry.paper else ""
        rows.append(f"| {names} | {entry.what} | {entry.streams} | {paper} |")
    return "\n".join(rows)


def _without_links(markdown: str) -> str:
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", markdown).replace("`", "")
