"""Names in plans are resolved to layers, networks and the like of five packages, and to nothing else."""

import importlib
import inspect
import pydoc
import re
from contextlib import redirect_stdout
from functools import lru_cache
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trust import WAY_OUT, is_trusted

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

PACKAGES = ("torch.nn", "dynamic_network_architectures", "batchgeneratorsv2", "nnunetv2", "nnunet_xmodal")
"""Where what plans name has to be defined."""

_CLASSES = ("dynamic_network_architectures", "batchgeneratorsv2")
"""Packages whose classes are all harmless to build; of the others those that are networks or layers."""

_FUNCTIONS = (
    "torch.nn.functional",
    "torch.nn.init",
    "dynamic_network_architectures",
    "batchgeneratorsv2",
    "nnunetv2.preprocessing.resampling",
    "nnunetv2.utilities.helpers",
    "nnunet_xmodal.networks",
)
"""Modules and packages of pure functions; others of these packages download, install, train and write files."""


def locate(name: object, what: str) -> type | object:
    """Return the class or function that a dotted name in plans stands for, as pydoc.locate does.

    Args:
        what: for the sentence, where the name stands: "conv_op in plans.json".

    Raises:
        XModalError: for a name that does not exist, and for one of anything but a layer, a network or a pure function
            that is defined in PACKAGES; nothing else is imported to find out.
    """
    if is_trusted():
        found = pydoc.locate(name) if isinstance(name, str) else None
        if found is None:
            raise XModalError(f"{what} is {name!r}, which does not exist: install the package that has it.")
        return found
    if not isinstance(name, str):
        _refuse(name, what)
    return _located(name, what)


@lru_cache(maxsize=256)
def _located(name: str, what: str) -> type | object:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", name) or not lies_in(name, PACKAGES):
        _refuse(name, what)
    module, rest = _longest_module(name.split("."))
    found: object = module
    for part in rest:
        found = getattr(found, part, None)
        if found is None:
            raise XModalError(f"{what} is {name!r}, which does not exist: install the version that has it.")
        if isinstance(found, ModuleType):  # a module that another one has imported: the name leads out of its package
            _refuse(name, what)
    if not _is_harmless(found):
        _refuse(name, what)
    return found


def _longest_module(parts: list[str]) -> tuple[ModuleType, list[str]]:
    module = importlib.import_module(parts[0])
    for number in range(1, len(parts)):
        here = ".".join(parts[: number + 1])
        if not hasattr(module, "__path__"):
            return module, parts[number:]
        try:
            module = importlib.import_module(here)
        except ModuleNotFoundError as error:
            if error.name != here:
                raise
            return module, parts[number:]
    return module, []


def _is_harmless(found: object) -> bool:
    module = getattr(found, "__module__", None) or ""
    if inspect.isclass(found):
        return lies_in(module, PACKAGES) and (issubclass(found, nn.Module) or lies_in(module, _CLASSES))
    return inspect.isfunction(found) and lies_in(module, _FUNCTIONS)


def lies_in(name: str, packages: tuple[str, ...]) -> bool:
    """Return whether a dotted name is one of the packages or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def trainer_called(name: str) -> "type[nnUNetTrainer]":
    """Return the trainer that nnU-Net finds by a name, without what it prints of every folder that it looks into.

    Raises:
        RuntimeError: where it finds none; it raises other errors, too, for what is no name of a trainer.
    """
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    with redirect_stdout(StringIO()):
        return recursive_find_trainer_class_by_name(name)


def find_trainer(name: object, source: str) -> type:
    """Return the trainer that a checkpoint names, from nnU-Net's folders and those of `nnUNet_extTrainer`.

    Args:
        source: for the sentence, the checkpoint.

    Raises:
        XModalError: for what is no name, and for one of no trainer.
    """
    try:
        if not isinstance(name, str) or not name.isidentifier():
            raise TypeError("it is no name")
        return trainer_called(name)
    except (RuntimeError, TypeError, AssertionError) as error:  # also for the name of a function or module
        raise XModalError(
            f"{source} was written by the trainer {name!r}, of which nnU-Net finds none: install the package that "
            "has it, and see that nnUNet_extTrainer names its folder."
        ) from error


@lru_cache(maxsize=256)
def find_in_nnunet(name: str, folder: str) -> object:
    """Return what nnU-Net finds by a bare name in one of its folders; None if there is nothing of that name.

    Args:
        folder: dotted, below nnunetv2: "preprocessing.normalization".
    """
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    path = Path(nnunetv2.__path__[0]).joinpath(*folder.split("."))
    return recursive_find_python_class(str(path), name, f"nnunetv2.{folder}")


def _refuse(name: object, what: str) -> NoReturn:
    raise XModalError(
        f"{what} is {name!r}, which is no layer or network of {', '.join(PACKAGES[:-1])} or {PACKAGES[-1]} and could "
        f"run anything: {WAY_OUT}."
    )
