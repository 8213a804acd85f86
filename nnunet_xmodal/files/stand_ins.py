"""nnU-Net's own writing, made safe while it works for us: what it writes in place would be cut off by a full disk."""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType

from nnunet_xmodal.files.atomic import write_atomically


@contextmanager
def stand_ins(functions: Mapping[str, object], *modules: ModuleType) -> Iterator[None]:
    """Replace functions of these modules, within the block, by ours of the same signature, where a module has them.

    Args:
        functions: by the name under which the modules call them; a module, too.
    """
    before = [(module, name, vars(module)[name]) for module in modules for name in functions if name in vars(module)]
    for module, name, _ in before:
        setattr(module, name, functions[name])
    try:
        yield
    finally:
        for module, name, theirs in before:
            setattr(module, name, theirs)


def save_json(obj: object, file: str, indent: int = 4, sort_keys: bool = True) -> None:
    """Write JSON as batchgenerators' function of this name does, to the same bytes, but whole or not at all.

    Raises:
        XModalError: see `write_atomically`.
    """

    def write(name: str) -> None:
        with open(name, "w", encoding="utf-8") as stream:
            json.dump(obj, stream, sort_keys=sort_keys, indent=indent)

    write_atomically(file, write)


def json_written_whole(*modules: ModuleType) -> AbstractContextManager[None]:
    """Let these modules of nnU-Net write JSON whole or not at all, within the block."""
    return stand_ins({"save_json": save_json}, *modules)
