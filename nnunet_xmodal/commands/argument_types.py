"""What argparse turns words of the command line into."""

import argparse
import re
from collections.abc import Sequence


def fold(word: str) -> int | str:
    """Parse a number, or "all"."""
    if word == "all":
        return word
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word} is neither a number nor all")
    return int(word)


def positive(word: str) -> int:
    """Parse a whole number from 1."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word} is not a positive number")
    return int(word)


def with_negative_pairs(words: Sequence[str]) -> list[str]:
    """Let argparse take words such as `-1:0` for values: it does so where they begin with a blank."""
    return [f" {word}" if re.fullmatch(r"-\d+:-?\d*", word) else word for word in words]
