"""Remarks: what a user should know although the command goes on."""

import sys

_said: list[str] = []


def remark(sentence: str) -> None:
    """Print a remark on stderr: `--executor print` is piped into shells."""
    _said.append(sentence)
    print(f"remark: {sentence}", file=sys.stderr, flush=True)


def repeat_remarks() -> None:
    """Print every remark once more, at the end of a command whose other words have pushed them off the screen."""
    said, _said[:] = list(dict.fromkeys(_said)), []
    for sentence in said:
        print(f"remark, again: {sentence}", file=sys.stderr, flush=True)
