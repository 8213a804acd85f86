"""Options of one kind of model, declared once: the command line, the check and the predictor are made of them.

A kind of model has a frozen dataclass of options, each field with the default None for "not given":

    @dataclass(frozen=True)
    class SegmentationOptions:
        margin: float | None = option("millimetres around the organ", metavar="MM", type=float)
"""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from nnunet_xmodal.errors import XModalError


@dataclass(frozen=True)
class NoOptions:
    """Options of models that have none."""


def option(help: str, **settings: Any) -> Any:
    """Declare an option that is None unless it is given.

    Args:
        help: for the command line, after the name of the kind of model where several kinds have the option.
        settings: `argparse`'s, such as type, nargs, choices, metavar; `flag=True` for a switch, `group` for the
            heading.
    """
    return field(default=None, metadata={"help": help, **settings})


def add_options(parser: argparse.ArgumentParser, kinds: Iterable[type]) -> None:
    """Add the options of several kinds of models to a parser, under their headings.

    An option that several kinds have is added once, with the help of all.
    """
    declared: dict[str, list[Field]] = {}
    for kind in kinds:
        for each in fields(kind):
            declared.setdefault(each.name, []).append(each)
    groups: dict[str, Any] = {}
    for name, same in declared.items():
        settings = {key: value for key, value in same[0].metadata.items() if key not in ("help", "group", "flag")}
        if same[0].metadata.get("flag"):
            settings |= {"action": "store_const", "const": True}
        heading = same[0].metadata["group"]
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        groups[heading].add_argument(f"--{name}", help=" ".join(each.metadata["help"] for each in same), **settings)


def given_options(arguments: Mapping[str, Any], kinds: Iterable[type]) -> dict[str, Any]:
    """Return the options that a command line gives, by name."""
    names = {each.name for kind in kinds for each in fields(kind)}
    return {name: arguments[name] for name in sorted(names) if arguments[name] is not None}


def read_options(kind: type, given: Mapping[str, Any], trainer: str) -> Any:
    """Make a kind's options of those that are given.

    Args:
        trainer: of the model, for the sentence.

    Raises:
        XModalError: for an option of another kind of model.
    """
    known = {each.name for each in fields(kind)}
    for name, value in given.items():
        if value is not None and name not in known:
            raise XModalError(f"--{name} does not apply to models of {trainer}: leave it out.")
    return kind(**{name: value for name, value in given.items() if name in known})
