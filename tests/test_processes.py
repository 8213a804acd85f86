"""Workers end with the process that started them, whoever started them and however it ends."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures.process import BrokenProcessPool

import pytest
from nnunetv2.imageio import reader_writer_registry
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_xmodal import processes
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.processes import ending_in_order, failure_of, terminate_workers, tied_workers, worker_pool

posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

PARENT = """
import multiprocessing, os, sys, threading, time
from nnunet_xmodal.processes import ending_in_order, failure_of, tied_workers, worker_pool

def work(seconds=600):
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(seconds)

def pool():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.map(work, [600])

def executor():
    with worker_pool(1, "waiting", "take fewer") as pool:
        pool.submit(work).result()

def daemon(method="spawn"):
    process = multiprocessing.get_context(method).Process(target=work, daemon=True)
    process.start()
    process.join()

def fork():
    daemon("fork")

def forkserver():
    daemon("forkserver")

def thread():
    thread = threading.Thread(target=daemon)
    thread.start()
    thread.join()

def nested():
    process = multiprocessing.get_context("spawn").Process(target=fork)
    process.start()
    process.join()

if __name__ == "__main__":
    with ending_in_order(), tied_workers():
        globals()[sys.argv[1]]()
"""


WAITING = """
import os, sys, time
import numpy as np
from nnunet_xmodal.files.parallel import run_all
from nnunet_xmodal.tasks.few_shot import superpixel_processes

def wait(*args, **others):
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(600)

def parallel():
    run_all(wait, [0, 1], 2, "Waiting")

def superpixels():
    superpixel_processes.felzenszwalb_superpixels = wait
    list(superpixel_processes.computed([("a", np.zeros((1, 2, 4, 4)))], None, 2))

if __name__ == "__main__":
    globals()[sys.argv[1]]()
"""


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:  # a container without an init keeps dead orphans
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return os.path.isdir("/proc/self") is False


def ends(process: int, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@posix
def test_workers_of_every_kind_end_with_a_killed_process(tmp_path):
    kinds = ("pool", "executor", "daemon", "fork", "forkserver", "thread", "nested")
    parents = [_start(tmp_path, kind) for kind in kinds]
    for kind, parent in zip(kinds, parents):
        worker = int(parent.stdout.readline())
        assert is_alive(worker), kind
        parent.kill()
        parent.wait()
        assert ends(worker), kind
        parent.stdout.close()


@posix
def test_sigterm_ends_workers_and_exits_with_143(tmp_path):
    for kind in ("pool", "executor", "daemon"):
        parent = _start(tmp_path, kind)
        worker = int(parent.stdout.readline())
        parent.terminate()
        assert parent.wait(20) == 143
        assert ends(worker), kind
        parent.stdout.close()


@pytest.mark.slow
@posix
@pytest.mark.parametrize("kind, name", [("parallel", "SIGKILL"), ("parallel", "SIGTERM"), ("superpixels", "SIGKILL")])
def test_workers_of_functions_called_outside_of_commands_end_with_the_process(tmp_path, kind, name):
    with _start(tmp_path, kind, WAITING) as parent:
        processes = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(is_alive, processes))
        parent.send_signal(getattr(signal, name))
    assert all(map(ends, processes))


def _start(folder, kind: str, program: str = PARENT) -> subprocess.Popen:
    script = folder / "parent.py"
    if not script.is_file():  # a spawned worker reads it once more, and never half of it
        script.write_text(program)
    words = [sys.executable, str(script), kind]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def receive(number: int) -> None:
    """Raise a signal and give its handler time: beside other threads Python may look for signals a moment later."""
    signal.raise_signal(number)
    for _ in range(5):
        time.sleep(0.005)


@posix
def test_sigterm_is_as_before_afterwards():
    with pytest.raises(SystemExit) as end, ending_in_order():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        receive(signal.SIGTERM)
    assert end.value.code == 143
    assert not any(
        isinstance(thread, threading.Timer) and not thread.finished.is_set() for thread in threading.enumerate()
    )
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@posix
def test_only_the_first_ctrl_c_interrupts(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cleaned = False
    try:
        with pytest.raises(KeyboardInterrupt), ending_in_order():
            try:
                receive(signal.SIGINT)
            finally:
                for _ in range(10):
                    receive(signal.SIGINT)
                cleaned = True
        assert cleaned and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with ending_in_order():
            pass
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        monkeypatch.setattr(processes, "_AT_ONCE", 0)  # one that was swallowed somewhere can be given again
        with pytest.raises(KeyboardInterrupt), ending_in_order():
            try:
                receive(signal.SIGINT)
            except KeyboardInterrupt:
                receive(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the background of a shell does
        with ending_in_order():
            receive(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@posix
@pytest.mark.parametrize("number, raised", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_what_a_library_swallows_is_raised_at_the_end(tmp_path, number, raised):
    """By nnU-Net's choice of a reader, which goes on with another one, with whose geometry plans would be made."""
    image = tmp_path / "anna.nii.gz"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    class Interrupted(SimpleITKIO):
        def read_images(self, files):
            receive(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_writer_registry, "LIST_OF_IO_CLASSES", [Interrupted, NibabelIO])
        patch.setattr(NibabelIO, "read_images", lambda self, files: None)
        chosen = None
        try:
            with pytest.raises(raised), ending_in_order():
                chosen = reader_writer_registry.determine_reader_writer_from_file_ending(".nii.gz", str(image))
        finally:
            signal.signal(signal.SIGINT, before)
    assert chosen is NibabelIO  # swallowed indeed


@posix
def test_what_fails_after_a_library_has_swallowed_an_interruption_is_one():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), ending_in_order():
            with contextlib.suppress(KeyboardInterrupt):
                receive(signal.SIGINT)
            raise RuntimeError("Unable to determine a reader")
    finally:
        signal.signal(signal.SIGINT, before)


@posix
def test_what_ignores_sighup_goes_on_ignoring_it(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_in_order():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def _wait() -> None:
    time.sleep(600)


def test_workers_are_terminated_and_gone():
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    with tied_workers():
        process = context.Process(target=_wait)
        process.start()
    terminate_workers([process])
    assert not process.is_alive()


def test_a_killed_worker_is_told_in_a_sentence():
    with pytest.raises(XModalError, match=r"^Looking: a process was killed, .*: take fewer\.$"):
        with worker_pool(1, "Looking", "take fewer"):
            raise BrokenProcessPool


def _fail(error: Exception) -> None:
    raise error


_DEAD = RuntimeError("Background workers died. Look for the error message further up! If there is none …")


@pytest.mark.parametrize(
    ("error", "said", "then"),
    [
        (OSError(28, "No space left on device", "a.npy"), "error: a.npy cannot be read or written (No space", "above"),
        (XModalError("a.nii.gz is cut off: copy it anew."), "error: a.nii.gz is cut off: copy it anew.\n", "above"),
        (TypeError("ours"), "TypeError: ours", "the memory was full"),
    ],
)
@posix
def test_a_worker_that_has_said_why_is_not_taken_for_one_without_memory(monkeypatch, capfd, error, said, then):
    monkeypatch.setattr(processes, "_started", deque())
    with tied_workers():
        process = multiprocessing.get_context("fork").Process(target=_fail, args=(error,))
        process.start()
    process.join()
    told = capfd.readouterr().err
    assert said in told and ("Traceback" in told) == isinstance(error, TypeError)
    assert then in failure_of(_DEAD)


class _Unsendable:
    def __init__(self, error: Exception):
        self.error = error

    def __reduce__(self):
        raise self.error


def _send(queue, thing) -> None:
    queue.put(thing)
    time.sleep(600)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(27, "File too large", "/torch_1_2"), "error: /torch_1_2 cannot be read or written (File too large)"),
        (RuntimeError("unable to write to file </torch_1_2>: No space left"), "error: the shared memory is full"),
        (TypeError("ours"), "TypeError: ours"),
    ],
)
@posix
def test_a_worker_that_cannot_send_what_it_has_made_ends_and_says_why(monkeypatch, capfd, error, said):
    monkeypatch.setattr(processes, "_started", deque())
    context = multiprocessing.get_context("fork")
    with tied_workers():
        process = context.Process(target=_send, args=(context.Queue(), _Unsendable(error)))
        process.start()
    process.join(10)
    assert process.exitcode == 70
    assert said in capfd.readouterr().err


def test_what_a_process_runs_is_tied_within_only():
    before = multiprocessing.process.BaseProcess.start
    with tied_workers():
        assert multiprocessing.process.BaseProcess.start is not before
    assert multiprocessing.process.BaseProcess.start is before
