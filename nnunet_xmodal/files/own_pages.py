"""HTML pages that this package has written, told apart from those of others that have the same name."""

from pathlib import Path

GENERATOR = '<meta name="generator" content="nnunet-xmodal">'
"""In the head of every page that this package writes."""

_OF_BEFORE = 'content="default-src &#39;none&#39;; '  # the policy of pages from before they named their generator
_HEAD = 2000  # bytes in which both stand


def is_own_page(file: Path) -> bool:
    """Return whether a file is a page that this package has written."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        head = stream.read(_HEAD).decode("utf-8", "replace")
    return GENERATOR in head or _OF_BEFORE in head
