"""Runs a script whose process group meets a fault: killed when it touches its n-th file, or a disk that is full.

    python faulty.py FAULT NUMBER FOLDER SCRIPT ARGUMENTS…

FAULT is one of
    none    lists the moments at which the script, or a process that it forks, opens a file below FOLDER for writing,
            renames or removes one there, or makes a folder: a line each in a file `moments` beside FOLDER
    kill    SIGKILL for the group shortly after moment NUMBER
    main    SIGKILL for the first process alone, which leaves its workers to themselves
    worker  SIGKILL for one of its workers, as Linux does where the memory is full; without any, nothing happens
    term    SIGTERM for the first process
    int     SIGINT for the group, as a terminal sends it for Ctrl-C
    ints    the same, and 50 ms later again
    full    no file may be larger than NUMBER bytes: the cut that a full disk makes, without a disk
Only processes that are forked are watched, see command_server.py.
"""

import mmap
import os
import random
import resource
import runpy
import signal
import struct
import sys
import tempfile
import threading
import time

_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.copyfile", "shutil.move")
_SHORTLY = 0.004  # seconds: a C library writes on while the thread that kills waits


class Moments:
    """An audit hook that counts, over all forks, and strikes once."""

    def __init__(self, fault: str, number: int, folder: str):
        self.fault, self.number, self.folder = fault, number, os.path.realpath(folder)
        self.main, self.group = os.getpid(), os.getpgrp()
        self.count = mmap.mmap(-1, 8)  # shared by forks

    def __call__(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return
        elif event in _EVENTS:
            path = arguments[0]
        else:
            return
        if not isinstance(path, str | bytes | os.PathLike):
            return
        if not os.fsdecode(path).startswith(self.folder):
            return
        (count,) = struct.unpack("q", self.count[:])
        self.count[:] = struct.pack("q", count + 1)
        if self.fault == "none":
            with open(os.path.join(os.path.dirname(self.folder), "moments"), "a") as file:
                file.write(f"{event} {os.path.relpath(os.fsdecode(path), self.folder)}\n")
        elif self.fault != "full" and count == self.number:
            threading.Thread(target=self.strike, daemon=True).start()

    def strike(self) -> None:
        time.sleep(random.uniform(0, _SHORTLY))
        if self.fault == "kill":
            os.killpg(self.group, signal.SIGKILL)
        elif self.fault == "worker":
            if workers := children(self.main):
                os.kill(random.choice(workers), signal.SIGKILL)
        elif self.fault in ("int", "ints"):
            os.killpg(self.group, signal.SIGINT)
            if self.fault == "ints":
                time.sleep(0.05)
                os.killpg(self.group, signal.SIGINT)
        else:
            os.kill(self.main, signal.SIGKILL if self.fault == "main" else signal.SIGTERM)


def children(parent: int) -> list[int]:
    """The processes that a process has started and that run."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat") as file:
                state, above = file.read().rsplit(")", 1)[1].split()[:2]
        except OSError:  # no process, or one that has just ended
            continue
        if int(above) == parent and state not in "ZX":
            found.append(int(name))
    return found


def main() -> None:
    fault, number, folder, script, *arguments = sys.argv[1:]
    tempfile.tempdir = None  # the command server knows its own
    if fault == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), resource.RLIM_INFINITY))
    else:
        sys.addaudithook(Moments(fault, int(number), folder))
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
