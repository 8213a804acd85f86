"""Remarks: what a user should know although the command goes on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_said: list[str] = []


def remark(sentence: str) -> None:
    """Print a remark on stderr: `--executor print` is piped into shells."""
    if sentence not in _said:  # those of a model that is called a thousand times
        _said.append(sentence)
    print(f"remark: {sentence}", file=sys.stderr, flush=True)


@contextmanager
def repeated_remarks() -> Iterator[None]:
    """Print the remarks made within once more at the end, where the command's other words have pushed them away."""
    _said.clear()
    yield
    for sentence in _said:
        print(f"remark, again: {sentence}", file=sys.stderr, flush=True)
