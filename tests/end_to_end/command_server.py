"""Python scripts run in forks of a process that has already imported the large libraries that they import.

Importing them takes longer than most of what the tests' commands do. A command is a process of its own all the same,
with its environment, working folder, output and random numbers, and what reads its environment on import, nnU-Net, it
imports itself. Processes that it starts are as anywhere.

Reads a line of JSON per command from stdin, and answers with a line that holds the exit status, or null after a
timeout.
"""

import json
import os
import random
import runpy
import signal
import sys
import time

import matplotlib.pyplot  # noqa: F401
import numpy as np
import pandas  # noqa: F401
import scipy.stats  # noqa: F401
import seaborn  # noqa: F401
import skimage.morphology  # noqa: F401
import sklearn.model_selection  # noqa: F401
import torch._dynamo  # noqa: F401

_POLL = 0.02  # seconds


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            return run(**request["command"])
        print(json.dumps(status_of(child, request["timeout"])), flush=True)


def status_of(child: int, timeout: float) -> int | None:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_POLL)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def run(script: str, arguments: list[str], environment: dict[str, str], folder: str, output: str) -> None:
    """What `python script arguments` does, with stdout and stderr in files `<output>.out` and `<output>.err`."""
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.stdin = open(os.devnull)
    for stream, ending in ((sys.stdout, "out"), (sys.stderr, "err")):
        file = os.open(f"{output}.{ending}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream.fileno())
        os.close(file)
    np.random.seed()  # as every process of its own
    random.seed()
    sys.argv = [script, *arguments]
    sys.path[0] = os.path.dirname(script)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    serve()
