"""Configurations of plans with what they inherit."""

from collections.abc import Mapping
from typing import Any


def with_inherited(configurations: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Return a configuration with what it inherits, which ends somewhere, as `check_plans` makes sure."""
    own = configurations[name]
    parent = own.get("inherits_from")
    return {**(with_inherited(configurations, parent) if parent else {}), **own}
