"""Processes of multiprocessing's "spawn" without a fresh interpreter, which would import nnU-Net once more.

As with "spawn", what a process is given is pickled, and the process works on what it unpickles; but it is a fork of the
one that starts it, with all modules that this one has.

Only where torch has one thread: a fork of a process with OpenMP's threads, as a prediction on the CPU has them, waits
for them for ever. Else it is a fresh interpreter. ITK's threads are made for forks.
"""

import io
import multiprocessing.context
import os
import pickle
import sys
import traceback
from multiprocessing import popen_spawn_posix, reduction


def threads() -> int:
    """Of this process, those of native libraries included."""
    return len(os.listdir("/proc/self/task"))


class _Inherited:
    """A file descriptor that a fork has anyway; a copy of it, for what was not unpickled may close its own."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def detach(self) -> int:
        return os.dup(self.descriptor)


class _Pickled:
    """A process as "spawn" sends it."""

    def __init__(self, process, popen):
        buffer = io.BytesIO()
        multiprocessing.context.set_spawning_popen(popen)
        try:
            reduction.dump(process, buffer)
        finally:
            multiprocessing.context.set_spawning_popen(None)
        self.bytes = buffer.getvalue()

    def _bootstrap(self, parent_sentinel: int) -> int:
        try:
            process = pickle.loads(self.bytes)
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            return 1
        return process._bootstrap(parent_sentinel)


class _Popen(popen_spawn_posix.Popen):
    DupFd = _Inherited

    def duplicate_for_child(self, fd: int) -> int:
        return fd

    def _launch(self, process_obj) -> None:
        super(popen_spawn_posix.Popen, self)._launch(_Pickled(process_obj, self))


def _start(process_obj) -> popen_spawn_posix.Popen:
    forks = "torch" not in sys.modules or sys.modules["torch"].get_num_threads() == 1
    return (_Popen if forks else popen_spawn_posix.Popen)(process_obj)


def fork_instead_of_spawn() -> None:
    """Of this process and of all that it starts in this way."""
    multiprocessing.context.SpawnProcess._Popen = staticmethod(_start)
