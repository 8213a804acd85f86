"""Flags of the command line made of the fields of a request, which say the defaults; and back to a request's fields."""

import argparse
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from types import MappingProxyType
from typing import Any, TypeVar

from nnunet_xmodal.catalogue.groups import GROUPS, MARK
from nnunet_xmodal.commands.argument_types import fold

Request = TypeVar("Request")
Container = argparse.ArgumentParser | argparse._ArgumentGroup


def description_of(docstring: str | None) -> str | None:
    """Return a command's description: its module's docstring without the first line."""
    return docstring and docstring.partition("\n")[2].strip()


class FieldFlags:
    """Adds flags to a parser, or to a group of one, each for a field of a request.

    A field without a default is a flag that has to be given, one with the default False is a switch; other defaults are
    told at the end of the flag's help.
    """

    def __init__(self, container: Container, request: type) -> None:
        self.container = container
        self.fields = {field.name: field for field in fields(request)}

    def add(self, field: str, help: str = "", flag: str = "", **settings: Any) -> None:
        """Add the flag of a field.

        Args:
            flag: `--` and the field's name unless it is given.
            settings: argparse's. Unless they are given, `metavar` is the flag's name in capitals and `default` the
                field's.
        """
        flag = flag or f"--{field}"
        settings |= {"dest": field}
        default = settings.get("default", _default(self.fields[field]))
        if default is MISSING:
            settings["required"] = True
        elif default is False:
            settings["action"] = "store_true"
        else:
            settings["default"] = default
            help = _with_default(help, default)
        if not {"action", "choices", "metavar"} & settings.keys():
            settings["metavar"] = flag.lstrip("-").replace("-", "_").upper()
        self.container.add_argument(flag, help=help, **settings)

    def add_groups(self) -> None:
        """Tell, in sections of their own, which trainers each group is."""
        for group, trainers in GROUPS.items():
            self.container.add_argument_group(f"-tr {MARK}{group} is", " ".join(trainers))

    def add_models(self) -> None:
        """Add the flags that name trained models as `nnUNetv2_train` does."""
        self.add("dataset", "dataset name or ID", "-d", metavar="DATASET")
        self.add("configurations", "configurations, e.g. 2d 3d_fullres", "-c", nargs="+", metavar="CONFIGURATION")
        self.add("trainers", "trainers, or groups of them", "-tr", nargs="+", metavar="TRAINER|@GROUP")
        self.add("plans", "plans", "-p", nargs="+", metavar="PLANS")
        self.add("folds", "folds, or all", "-f", nargs="+", type=fold, metavar="FOLD")


def request_from(kind: type[Request], args: argparse.Namespace) -> Request:
    """Make a request of what a parser returned.

    Raises:
        XModalError: see the request.
    """
    return kind(**request_fields(args))


def request_fields(args: argparse.Namespace, renamed: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return the values by the names of a request's fields, lists as tuples, which nobody can change.

    Args:
        args: what a parser returned.
        renamed: names that argparse gives → names of fields, where they differ.
    """
    values = {renamed.get(name, name): value for name, value in vars(args).items()}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _default(field: Field) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _with_default(help: str, default: Any) -> str:
    if default is None or default == ():
        return help
    words = " ".join(map(str, default)) if isinstance(default, tuple) else f"{default}"
    return f"{help} (default: {words})" if help else f"default: {words}"
