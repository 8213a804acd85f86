"""Processes that hold something until they are killed, or until their standard input ends."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def holders(script: str, says: str) -> Iterator[Callable[..., subprocess.Popen]]:
    """Yield `(*words)` → a process of a script that has said that it holds; all of them are killed in the end.

    Args:
        script: prints a line when it holds, and reads its standard input.
        says: that line.
    """
    processes: list[subprocess.Popen] = []

    def start(*words: str) -> subprocess.Popen:
        command = [sys.executable, "-c", script, *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == f"{says}\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
