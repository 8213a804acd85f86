"""From what argparse found to the fields of a request."""

from argparse import Namespace
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def request_fields(args: Namespace, renamed: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return the values by the names of a request's fields, lists as tuples, which nobody can change.

    Args:
        args: what a parser returned.
        renamed: names that argparse gives → names of fields, where they differ.
    """
    values = {renamed.get(name, name): value for name, value in vars(args).items()}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
