"""Stock commands with our trainers say in a sentence what a user can mend, and show our own faults in full."""

import errno
import subprocess
import sys
import threading

import pytest

from nnunet_xmodal.uncaught import end_in_a_sentence

SCRIPT = """
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.uncaught import end_in_a_sentence
end_in_a_sentence()
raise XModalError("case_3 holds NaN: correct it.")
"""


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    end_in_a_sentence()
    return sys.excepthook


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "progress.png"), "error: progress.png cannot be"),
        (RuntimeError("Some background workers are no longer alive"), "error: a worker process ended too early"),
        (MemoryError(), "error: the memory does not suffice"),
        (KeyboardInterrupt(), "interrupted\n"),
    ],
)
def test_what_a_user_can_mend(hook, capsys, error, said):
    hook(type(error), error, None)
    told = capsys.readouterr().err
    assert told.startswith(said) and len(told.splitlines()) == 1


def test_faults_of_ours_keep_their_traceback(hook, capsys):
    hook(TypeError, TypeError("ours"), None)
    assert capsys.readouterr().err == "TypeError: ours\n"


@pytest.mark.usefixtures("hook")
def test_threads_leave_lost_workers_to_the_main_thread(capsys):
    """Those of batchgenerators' loaders notice the end of a training, too, and would say so in tracebacks."""

    def fail(error: Exception) -> None:
        raise error

    words = "One or more background workers are no longer alive. Exiting. Please check the print statements above"
    for error, said in ((RuntimeError(words), False), (TypeError("ours"), True)):
        thread = threading.Thread(target=fail, args=(error,))
        thread.start()
        thread.join()
        assert ("Traceback" in capsys.readouterr().err) == said


def test_another_hook_stays(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", print)
    monkeypatch.setattr(threading, "excepthook", print)
    end_in_a_sentence()
    assert sys.excepthook is print and threading.excepthook is print


def test_the_status_is_that_of_an_error():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "error: case_3 holds NaN: correct it.\n"
