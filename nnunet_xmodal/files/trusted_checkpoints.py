"""Checkpoints are read as data: weights, numbers and plain containers, and nothing in them is run.

nnU-Net reads its checkpoints with `weights_only=False`, so that a file may name any function of the machine and torch
calls it. `only_weights` switches that off for everybody who loads within it, nnU-Net included.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch.serialization import add_safe_globals, get_unsafe_globals_in_checkpoint

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.stand_ins import stand_ins
from nnunet_xmodal.files.trust import WAY_OUT, is_trusted

_FORCE, _NEVER = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""Torch's own variables: they outweigh what the caller of torch.load asks for."""


def _numpy_scalars() -> list[Callable]:
    """List what a pickled numpy number names: its maker, as numpy 1 and 2 call it, and the types of numbers.

    nnU-Net's losses, Dice scores and learning rates are such numbers. Object and structured types are not among them.
    """
    types = {type(np.dtype(code)) for code in "?bhilqBHILQefd"}
    return [_maker("core"), _maker("_core"), np.dtype, *sorted(types, key=lambda kind: kind.__name__)]


def _maker(core: str) -> Callable:
    """Return numpy's maker of scalars under the name that a numpy writes whose core is called so."""
    make = np.float64(0).__reduce__()[0]

    def scalar(*arguments: object) -> np.generic:
        return make(*arguments)

    scalar.__module__, scalar.__qualname__ = f"numpy.{core}.multiarray", "scalar"
    return scalar


_NUMBERS = _numpy_scalars()


@contextmanager
def only_weights() -> Iterator[None]:
    """Make every torch.load within read weights and numbers only, whatever its caller asks for; not with `--trust`."""
    if is_trusted():
        yield
        return
    add_safe_globals(_NUMBERS)  # each time: whoever else allows them for a while takes them away again
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _NEVER)}
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        del os.environ[_FORCE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def read_checkpoint(
    file: str | Path,
    map_location: str | torch.device = "cpu",
    mmap: bool = False,
    way_out: str = "copy it anew, or name another file",
) -> dict:
    """Read a checkpoint of nnU-Net.

    Args:
        mmap: leave the weights on the disk until they are used, where the file's format allows it.
        way_out: for the sentence, what to do where it cannot be read.

    Raises:
        XModalError: if it cannot be read in full, is none, or names what could run code; the file stays as it is.
    """
    try:
        with only_weights():
            content = torch.load(
                file, map_location=map_location, weights_only=False, mmap=mmap and zipfile.is_zipfile(file)
            )
    except pickle.UnpicklingError as error:
        if names := foreign_globals(file, str(error)):
            raise XModalError(
                f"{file} holds {', '.join(names)}, which no checkpoint of nnU-Net needs and which could run anything "
                f"when it is loaded: {WAY_OUT}."
            ) from error
        raise _unreadable(file, error, way_out) from error
    except Exception as error:  # of zip, torch, the memory or the file system
        raise _unreadable(file, error, way_out) from error
    if not isinstance(content, dict):
        raise XModalError(f"{file} is no readable checkpoint (it holds a {type(content).__name__}): {way_out}.")
    return content


def check_checkpoint(file: str | Path) -> None:
    """Read a checkpoint without its weights.

    Raises:
        XModalError: see `read_checkpoint`.
    """
    read_checkpoint(file, mmap=True)


def foreign_globals(file: str | Path, message: str = "") -> list[str]:
    """Name the functions and classes in a checkpoint that are neither torch's own nor numpy's numbers.

    Args:
        message: of torch, which names the first of them also where the file is no zip.
    """
    try:
        found = set(get_unsafe_globals_in_checkpoint(file))
    except Exception:  # an old format, or one that is damaged
        found = set()
    found |= set(re.findall(r"GLOBAL ([\w.]+)", message))
    return sorted(found)


def guard_pretrained_weights() -> None:
    """Let nnUNetv2_train read `-pretrained_weights` as `read_checkpoint` would, in this process.

    nnU-Net reads them between the trainer's making and its first epoch and asks no method of the trainer.
    """
    from nnunetv2.run import load_pretrained_weights as original
    from nnunetv2.run import run_training

    load = original.load_pretrained_weights
    # the optimiser of a GPU's training lies on it, and there may be none here
    onto_cpu = SimpleNamespace(load=partial(torch.load, map_location="cpu"), device=torch.device)

    @wraps(load)
    def guarded(network: torch.nn.Module, fname: str, verbose: bool = False) -> None:
        check_checkpoint(fname)
        with only_weights(), stand_ins({"torch": onto_cpu}, original):
            load(network, fname, verbose)

    run_training.load_pretrained_weights = guarded


def _unreadable(file: str | Path, error: Exception, way_out: str) -> XModalError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, pickle.UnpicklingError):  # torch then advises to load it without a check
        reason = "it is cut off, or not a file of torch.save"
    return XModalError(f"{file} is no readable checkpoint ({reason}): {way_out}.")
