"""What a module sees of Windows: the names that are not there, and `os.name`.

Patching `os.name` itself would break pathlib, so that a module gets an `os` of its own.
"""

import multiprocessing  # noqa: F401  the standard library's own use of what is taken away is this system's
import os
import signal
import subprocess  # noqa: F401
import sys

MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
"""Modules of the standard library that Windows lacks."""

OF_OS = ("WNOHANG", "fork", "forkpty", "getegid", "geteuid", "getgid", "getpgid", "getpgrp", "getuid", "killpg")
OF_OS += ("mkfifo", "nice", "setpgid", "setsid")
"""What Windows lacks of `os`."""

SIGNALS = ("SIGALRM", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGSTOP", "SIGUSR1", "SIGUSR2", "alarm")
"""What Windows lacks of `signal`."""


class WindowsOs:
    """`os` under the name of Windows'; what is asked of it is this system's, where Windows has it."""

    name = "nt"

    def __getattr__(self, name: str) -> object:
        if name in OF_OS:
            raise AttributeError(f"Windows has no os.{name}")
        return getattr(os, name)


def take_away() -> None:
    """Leave this process without what Windows lacks."""
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails
    for module, names in ((os, OF_OS), (signal, SIGNALS)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
