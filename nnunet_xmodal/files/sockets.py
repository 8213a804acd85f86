"""multiprocessing's sockets in a temporary folder that carries its owner's name."""

import multiprocessing
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from nnunet_xmodal.files.temporary import temporary_folder

_LONGEST = 76  # characters: a socket's path may have 107, and multiprocessing adds up to 31


@contextmanager
def sockets_that_are_swept() -> Iterator[None]:
    """Within, multiprocessing uses a folder of `temporary_folder` in place of `pymp-…`, which a killed process leaves.

    Where that cannot be made, or its name is too long for sockets, everything stays as it is.
    """
    configuration = multiprocessing.current_process()._config  # where multiprocessing keeps it, for workers too
    with ExitStack() as stack:
        if "tempdir" not in configuration:
            with suppress(OSError):
                folder = str(stack.enter_context(temporary_folder()))
                if len(folder) <= _LONGEST:
                    configuration["tempdir"] = folder
                    stack.callback(configuration.pop, "tempdir", None)
        yield
