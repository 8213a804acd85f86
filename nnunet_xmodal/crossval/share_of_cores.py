"""A Python script that takes a share of this machine's cores, for trainings side by side without a GPU.

    python -m nnunet_xmodal.crossval.share_of_cores N SCRIPT ARGUMENT …

nnU-Net takes a thread for every core that there is. Two trainings on two cores would have four, which wait for each
other: epochs of a small network took 43 to 79 s, and 11 s with one thread each.
"""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

from nnunet_xmodal.files.environment import usable_cores

VARIABLE = "nnUNetXModal_cores_per_training"
"""Where the scheduler tells the share; unset for all of them."""


def share_of(trainings: int) -> int:
    """Return how many cores each of so many trainings at once has, at least one."""
    return max(1, usable_cores() // trainings)


def on_share(command: list[str]) -> list[str]:
    """Return the command that runs a script on the share of the environment.

    Where none is told, and for what is no script of Python, that is the command itself.
    """
    share = os.environ.get(VARIABLE, "")
    if not share.isdecimal() or not _is_python(Path(command[0])):
        return command
    return [sys.executable, "-m", __spec__.name, share, *command]


def _is_python(script: Path) -> bool:
    """Tell whether runpy can run it: what pip installs, on Windows an archive behind a launcher.

    Where the interpreter's path has blanks or is long, pip writes it into the second line, which `sh` runs.
    """
    with open(script, "rb") as file:
        return script.suffix == ".exe" or b"python" in file.readline() + file.readline()


def main() -> None:
    """Run a script whose `multiprocessing.cpu_count()`, by which nnU-Net goes, is the share."""
    share, script, *arguments = sys.argv[1:]
    multiprocessing.cpu_count = lambda: int(share)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
