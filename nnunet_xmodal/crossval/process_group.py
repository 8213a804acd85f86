"""A process and all that it starts, ended as one: a process group on POSIX, a job object on Windows."""

import os
import signal
import subprocess
from contextlib import suppress
from typing import Any

from nnunet_xmodal.crossval.windows_job import end_children_with_this_process

_PATIENCE = 10  # seconds between SIGTERM and SIGKILL
_NEW_PROCESS_GROUP = 0x200  # CREATE_NEW_PROCESS_GROUP of subprocess, which has it on Windows alone


def of_its_own() -> dict[str, Any]:
    """Return what `Popen` takes for a process that leads a group, which a terminal's Ctrl-C does not reach."""
    if os.name == "nt":
        return {"creationflags": _NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def tie_groups() -> None:
    """Let the groups that this process starts end with it on Windows, which ends none as a whole.

    Elsewhere nothing is done: there `stop_group` and `kill_group` end one.

    Raises:
        OSError: if Windows refuses.
    """
    if os.name == "nt":
        end_children_with_this_process()


def stop_group(process: subprocess.Popen) -> None:
    """End a group's leader and everything that is left of its group; on Windows, where that ends later, the leader."""
    if os.name == "nt":
        process.terminate()
        process.wait()
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def kill_group(number: int) -> None:
    """End what is left of a group whose starter was killed; on Windows it has ended with that one, see `tie_groups`."""
    if os.name != "nt":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(number, signal.SIGKILL)
