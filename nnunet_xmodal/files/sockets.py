"""multiprocessing's sockets in a temporary folder that carries its owner's name."""

import multiprocessing
from contextlib import ExitStack, suppress
from multiprocessing.util import Finalize

from nnunet_xmodal.files.temporary import temporary_folder

_LONGEST = 76  # characters: a socket's path may have 107, and multiprocessing adds up to 31


def keep_sockets_in_a_swept_folder() -> None:
    """Let multiprocessing use a folder of `temporary_folder` in place of `pymp-…`, which a killed process leaves.

    It is removed when multiprocessing ends. Where it cannot be made, or its name is too long for sockets, nothing
    changes.
    """
    # where multiprocessing keeps it, for workers too
    configuration = vars(multiprocessing.current_process())["_config"]
    if "tempdir" in configuration:
        return
    stack = ExitStack()
    with suppress(OSError):
        folder = str(stack.enter_context(temporary_folder()))
        if len(folder) > _LONGEST:
            stack.close()
            return
        configuration["tempdir"] = folder
        Finalize(None, stack.close, exitpriority=-100)  # after everything that has a socket there
