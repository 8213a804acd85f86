"""multiprocessing's sockets in a temporary folder that carries its owner's name."""

import atexit
import multiprocessing
import tempfile
from contextlib import ExitStack, suppress
from multiprocessing.util import Finalize

from nnunet_xmodal.files.temporary import temporary_folder
from nnunet_xmodal.processes import finish_in_peace

_LONGEST = 76  # characters: a socket's path may have 107, and multiprocessing adds up to 31


_SHORT_PLACES = ("/tmp", "/var/tmp")


def keep_sockets_in_a_swept_folder() -> None:
    """Let multiprocessing use a folder of `temporary_folder` in place of `pymp-…`, which a killed process leaves.

    It is removed when multiprocessing ends. Where the name of the folder for temporary files is too long for sockets,
    which multiprocessing fails on, it lies in `/tmp`; where none can be made nothing changes.
    """
    # where multiprocessing keeps it, for workers too
    configuration = vars(multiprocessing.current_process())["_config"]
    if "tempdir" in configuration:
        return
    for place in (tempfile.gettempdir(), *_SHORT_PLACES):
        stack = ExitStack()
        with suppress(OSError):
            folder = str(stack.enter_context(temporary_folder(place)))
            if len(folder) > _LONGEST:
                stack.close()
                continue
            configuration["tempdir"] = folder
            Finalize(None, stack.close, exitpriority=-100)  # after everything that has a socket there
            atexit.register(finish_in_peace)  # called before what was registered earlier: multiprocessing's end
            return
