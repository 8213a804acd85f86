"""Read what a trainer's name says, without importing the trainer."""

import re
from typing import NamedTuple

_LENGTH = re.compile(r"_(?P<epochs>[1-9]\d*)epochs(?:_(?P<iterations>[1-9]\d*)its)?$")


FOR_INCOMPLETE_CASES = (
    "nnUNetTrainerAnyStreams, nnUNetTrainermmFormer, nnUNetTrainerZeroFill, any trainer whose name ends in Dropout "
    "or, to make missing streams, nnUNetTrainerCMFTUnpaired"
)
"""Trainers that take cases which lack channels, in words."""


class Length(NamedTuple):
    """The length of a training: epochs, and iterations per epoch where the name gives them."""

    epochs: int
    iterations: int | None


def length_of(name: str) -> Length | None:
    """Return the length that a name ends with, `nnUNetTrainerCSAD_10epochs_50its` → (10, 50), or None."""
    match = _LENGTH.search(name)
    if match is None:
        return None
    return Length(int(match["epochs"]), int(match["iterations"]) if match["iterations"] else None)


def without_length(name: str) -> str:
    """Return the name without its length, `nnUNetTrainerCSAD_10epochs_50its` → `nnUNetTrainerCSAD`."""
    return _LENGTH.sub("", name)


def needs_every_channel(trainer: str, n_incomplete: int, case: str, lacking: str) -> str:
    """Return why a trainer refuses a fold, of which so many cases lack channels, and one of them these."""
    cases = "a case lacks one" if n_incomplete == 1 else f"{n_incomplete} cases lack some"
    return (
        f"{trainer} needs every channel, and {cases} ({case} has no {lacking}): train {FOR_INCOMPLETE_CASES}, or name "
        "complete cases alone in splits_final.json."
    )
