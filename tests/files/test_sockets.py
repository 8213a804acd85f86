"""What multiprocessing leaves in the system's temporary folder carries its owner's name."""

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nnunet_xmodal.files import sockets, temporary
from nnunet_xmodal.files.sockets import keep_sockets_in_a_swept_folder

COMMAND = """
import os
from multiprocessing.util import get_temp_dir
from nnunet_xmodal.files.sockets import keep_sockets_in_a_swept_folder

if __name__ == "__main__":
    keep_sockets_in_a_swept_folder()
    print(get_temp_dir(), flush=True)
    {end}
"""


@pytest.fixture
def configuration(monkeypatch) -> dict:
    """multiprocessing's, without a folder."""
    made: dict = {}
    monkeypatch.setattr(multiprocessing.current_process(), "_config", made)
    return made


@pytest.mark.skipif(os.name != "posix", reason="there are no such sockets on Windows")
def test_the_folder_goes_with_the_process_or_with_the_next_one():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's are too long for sockets
        _check(Path(folder))


def _check(folder: Path) -> None:
    for end, left in (("", 0), ("os.kill(os.getpid(), 9)", 1), ("", 0)):
        words = [sys.executable, "-c", COMMAND.format(end=end)]
        done = subprocess.run(words, env={**os.environ, "TMPDIR": str(folder)}, capture_output=True, text=True)
        assert done.stdout.startswith(f"{folder}/.tmp_{temporary._HOST}.") and not done.stderr
        assert len(list(folder.iterdir())) == left


@pytest.mark.skipif(os.name != "posix", reason="there are no such sockets on Windows")
def test_a_path_that_is_too_long_for_a_socket_gives_way_to_a_short_one(configuration, monkeypatch, tmp_path):
    """multiprocessing's own folder would lie in the long one, be left by a killed process, and take no socket."""
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    finalizers: list = []
    monkeypatch.setattr(sockets, "Finalize", lambda _, end, **__: finalizers.append(end))
    keep_sockets_in_a_swept_folder()
    made = Path(configuration["tempdir"])
    assert made.parent in (Path("/tmp"), Path("/var/tmp")) and made.is_dir() and made.name.startswith(".tmp_")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(made / "listener-abcdefgh"))
    finalizers[0]()
    assert not made.exists() and not list(long.iterdir())


def test_a_folder_that_cannot_be_written_is_no_hindrance(configuration, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    keep_sockets_in_a_swept_folder()
    assert not configuration


AT_THE_END = """
import atexit, os, signal, sys, time
from nnunet_xmodal.files.sockets import keep_sockets_in_a_swept_folder

def interrupt():
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
        time.sleep(0.05)

if __name__ == "__main__":
    atexit.register(interrupt)
    keep_sockets_in_a_swept_folder()
    assert os.listdir(sys.argv[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no such signals")
def test_a_signal_at_the_very_end_leaves_no_folder():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        command = [sys.executable, "-c", AT_THE_END, folder]
        done = subprocess.run(command, env={**os.environ, "TMPDIR": folder}, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert not os.listdir(folder)
