import os
import signal
import subprocess
import sys
import time

import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.parallel import run_all

WAITING = """
import os, pathlib, time
from nnunet_xmodal.files.parallel import run_all

def wait(folder):
    pathlib.Path(folder, str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    run_all(wait, [{folder!r}] * 2, 2, "Waiting")
"""


def fault_of(number: int) -> str | None:
    return f"{number} is odd." if number % 2 else None


def test_faults_are_counted_when_all_have_been_looked_at():
    run_all(fault_of, [0, 2], 1, "Looking")
    with pytest.raises(XModalError, match=r"^1 is odd. \(2 other cases have faults, too.\)$"):
        run_all(fault_of, [5, 3, 2, 1], 1, "Looking")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_process_that_began_them(tmp_path, number):
    folder = tmp_path / "running"
    folder.mkdir()
    (tmp_path / "waiting.py").write_text(WAITING.format(folder=str(folder)))
    with subprocess.Popen([sys.executable, tmp_path / "waiting.py"], stderr=subprocess.DEVNULL) as process:
        _until(lambda: len(list(folder.iterdir())) == 2)
        process.send_signal(number)
    workers = [int(file.name) for file in folder.iterdir()]
    _until(lambda: not any(map(_is_alive, workers)))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
