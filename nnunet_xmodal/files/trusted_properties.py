"""What nnU-Net keeps about preprocessed cases is read as data: numbers, texts, arrays of numbers, plain containers.

nnU-Net keeps it in pickles beside the voxels and reads these in every training, so that a file may name any function
of the machine and Python calls it.
"""

import pickle
from pathlib import Path
from typing import Any

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trust import WAY_OUT, is_trusted

_ALLOWED = {
    ("__builtin__", "bytes"),  # in old protocols, as Python 2 called it
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *(
        (f"numpy.{core}.{module}", name)  # numpy 1 and 2 call it differently
        for core in ("core", "_core")
        for module, name in (("multiarray", "scalar"), ("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
    ),
}
"""What nnU-Net's dictionaries of numbers, arrays of numbers and texts name."""


class _Properties(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return a maker of numbers; raise for anything else."""
        if (module, name) not in _ALLOWED:
            raise _Foreign(f"{module}.{name}")
        return super().find_class(module, name)


class _Foreign(Exception):
    """Names a function or class that no property needs."""


def read_properties(file: str, mode: str = "rb") -> Any:
    """Read a `.pkl` of a preprocessed case as batchgenerators' `load_pickle` does, but run nothing.

    Raises:
        XModalError: for a file that is cut off, and without `--trust` for one that names what could run code.
    """
    path = Path(file)
    try:
        with open(path, "rb") as stream:
            return (pickle.Unpickler if is_trusted() else _Properties)(stream).load()
    except _Foreign as error:
        raise XModalError(
            f"{path} holds {error}, which nnU-Net keeps about no case and which could run anything when it is read: "
            f"preprocess the case yourself, or, {WAY_OUT}."
        ) from error
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise XModalError(f"{path} is cut off or damaged ({error}): preprocess again.") from error


def guard_properties() -> None:
    """Let nnU-Net's datasets read what is kept about cases by `read_properties`, in this process and its forks."""
    from nnunetv2.training.dataloading import nnunet_dataset

    nnunet_dataset.load_pickle = read_properties
