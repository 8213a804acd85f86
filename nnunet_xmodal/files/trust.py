"""The decision whether this process may run code that comes with a model: `--trust`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "nnUNetXModal_trust"
"""Of the environment, so that processes inherit it and stock commands with our trainers know it, too; 1 trusts."""

WAY_OUT = f"if you trust whoever made it, add --trust, or set {VARIABLE}=1 for commands without that flag"


def is_trusted() -> bool:
    """Return whether the user has said that checkpoints and plans come from somebody trusted."""
    return os.environ.get(VARIABLE, "").strip().lower() in ("1", "true", "yes")


@contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """Trust models within the block, in this process and those it starts; False leaves it to the environment."""
    before = os.environ.get(VARIABLE)
    if trust:
        os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before
