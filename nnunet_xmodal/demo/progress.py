"""One line per step on the terminal, everything that libraries print in a log file."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from time import monotonic


class Progress:
    """Prints lines that begin with the time since the start, `[ 1:05]`.

    Args:
        log_file: gets what is printed inside of `step`, appended.
    """

    def __init__(self, log_file: Path) -> None:
        self.log_file = log_file
        self.start = monotonic()

    def say(self, text: str) -> None:
        """Print a line."""
        print(f"{self._now()} {text}", flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[list[str]]:
        """Print `text` at once and behind it, when the block is done, what it took and what the block appended."""
        print(f"{self._now()} {text} … ", end="", flush=True)
        results: list[str] = []
        began = monotonic()
        try:
            with printing_to(self.log_file):
                yield results
        except BaseException:
            print("stopped", flush=True)
            raise
        print(", ".join([f"{monotonic() - began:.0f} s", *results]), flush=True)

    def _now(self) -> str:
        return f"[{clock(monotonic() - self.start):>5}]"


def clock(seconds: float) -> str:
    """Return seconds as `m:ss`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@contextmanager
def printing_to(log_file: Path) -> Iterator[None]:
    """Send what this process and those that it starts print to a file.

    Python's streams are redirected for this process and file descriptors 1 and 2 for its children.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with open(log_file, "a", encoding="utf-8", buffering=1) as log:
        saved = [os.dup(descriptor) for descriptor in (1, 2)]
        try:
            for descriptor in (1, 2):
                os.dup2(log.fileno(), descriptor)
            with redirect_stdout(log), redirect_stderr(log):
                yield
        finally:
            for descriptor, old in zip((1, 2), saved):
                os.dup2(old, descriptor)
                os.close(old)
