"""nnU-Net's environment variables."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from nnunet_xmodal.errors import XModalError

_LOADERS = "nnUNet_n_proc_DA"


def require_variables(*names: str) -> None:
    """Check that variables name folders, as nnU-Net will take them: literally.

    Blanks within a path are fine.

    Raises:
        XModalError: for the first variable that is not set, names a file, or holds what a shell would have replaced or
            removed: `~`, `$HOME`, quotes, blanks around it.
    """
    for name in names:
        value = os.environ.get(name)
        if not value or not value.strip():
            raise XModalError(
                f"the environment variable {name} is not set: point it at a folder, for example "
                f"`export {name}=/path/to/{name}`."
            )
        fault = _fault(value)
        if fault:
            raise XModalError(f"the environment variable {name} is '{value}', {fault.format(name=name)}.")


def _fault(value: str) -> str | None:
    """Return what is wrong with a value, and what to write instead; `{name}` stands for the variable."""
    plain = value.strip().strip("'\"").strip()
    if os.path.isdir(value) and value == plain and not value.startswith("~"):
        return None
    if value != plain:
        what = "with blanks or line ends" if value != value.strip() else "with quotes"
        return f'{what} around it, which nnU-Net takes for a part of the path: write export {{name}}="{plain}"'
    if value.startswith("~"):
        path = f"$HOME/{value[2:]}" if value.startswith("~/") or value == "~" else os.path.expanduser(value)
        return f'whose ~ no shell has replaced: write export {{name}}="{path}"'
    if re.search(r"\$\w|\$\{{?\w", value) or re.search(r"%\w+%", value):
        path = os.path.expandvars(value).replace("{", "{{").replace("}", "}}")
        return f"in which a variable has not been replaced: write the path itself, export {{name}}={path}"
    if os.path.exists(value):
        return "which is a file: point it at a folder"
    return None


def check_numbers_of_processes() -> None:
    """Check the variables that nnU-Net reads as whole numbers when it is imported; empty ones count as not set.

    Raises:
        XModalError: for one that is none.
    """
    for name in ("nnUNet_def_n_proc", _LOADERS):
        value = os.environ.get(name)
        if value == "":
            del os.environ[name]
        elif value is not None and not value.strip().isdecimal():
            raise XModalError(
                f"the environment variable {name} is '{value}': write a number of processes, or unset it."
            )


@contextmanager
def with_a_loader() -> Iterator[None]:
    """Let nnU-Net plan, within, where `nnUNet_n_proc_DA` is 0: its estimate of memory takes so many threads."""
    given = os.environ.get(_LOADERS)
    if given == "0":
        os.environ[_LOADERS] = "1"
    try:
        yield
    finally:
        if given == "0":
            os.environ[_LOADERS] = given


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_processes() -> int:
    """Return nnU-Net's `nnUNet_def_n_proc` where it is a positive number, else the number of cores, at most 8."""
    value = os.environ.get("nnUNet_def_n_proc", "")
    return int(value) if value.isdecimal() and int(value) else min(8, os.cpu_count() or 1)
