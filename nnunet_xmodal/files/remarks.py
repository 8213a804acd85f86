"""Remarks: what a user should know although the command goes on."""

import sys


def remark(sentence: str) -> None:
    """Print a remark on stderr: `--executor print` is piped into shells."""
    print(f"remark: {sentence}", file=sys.stderr, flush=True)
