"""Worker processes that end with the process that started them, and an end in order on SIGTERM.

A process that is killed cannot end its workers, and those of multiprocessing do not notice: they wait for tasks, each
with half a gigabyte of libraries. Within `tied_workers` every process that multiprocessing starts, by whatever method
and for whomever (our pools, nnU-Net's, the loaders of batchgenerators), looks after itself.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any

from nnunet_xmodal.broken_pools import fail_broken_pools, leave_pools_as_they_are
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.system_failures import is_of_dead_workers, sentence_of

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
_PATIENCE = 20  # seconds from SIGTERM to an end by force; Slurm waits 30 before it kills
_AT_ONCE = 3.0  # seconds
_HAS_SAID_WHY = 70  # exit status of a worker after a sentence; EX_SOFTWARE of sysexits.h
_started: deque[BaseProcess] = deque(maxlen=256)
_start = BaseProcess.start
_ANY_PROCESS: Any = BaseProcess  # its `start` is replaced and its `_target` read, which its type does not foresee
_ANY_QUEUE: Any = Queue  # a private method is replaced


class _Tied:
    """The target of a process, run after the process has been tied to the one that starts it; pickles."""

    def __init__(self, target: Callable, ignores_interrupts: bool) -> None:
        self.target, self.ignores_interrupts = target, ignores_interrupts
        self.parent = os.getpid()
        self.by_main_thread = threading.current_thread() is threading.main_thread()

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork has its parent's
        if self.ignores_interrupts:  # a terminal sends Ctrl-C to all, and the parent ends its workers
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with_parent(self.parent if self.by_main_thread else None)
        tie_workers(self.ignores_interrupts)
        _ANY_QUEUE._on_queue_feeder_error = staticmethod(_end_for_what_is_lost)
        try:
            return self.target(*args, **kwargs)
        except Exception as error:
            sentence = failure_of(error)
            if sentence is None:
                raise
            print(f"error: {sentence}", file=sys.stderr, flush=True)
            raise SystemExit(_HAS_SAID_WHY) from None


def _end_for_what_is_lost(error: BaseException, _: object) -> None:
    """End a worker whose queue could not send something, for want of shared memory or for a full disk.

    multiprocessing shows a traceback and drops it, and whoever waits for it, as nnU-Net's training waits for its
    batches, waits for ever; that a worker is gone is noticed.
    """
    sentence = failure_of(error)
    if sentence is None:
        traceback.print_exception(error)
    else:
        print(f"error: {sentence}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(_HAS_SAID_WHY)


def failure_of(error: BaseException) -> str | None:
    """Return what a user can do about an error, in a sentence; None for faults of the program.

    Of workers that are gone it says whether they have told why, or were killed.
    """
    if isinstance(error, XModalError):
        return str(error)
    if is_of_dead_workers(error) and _HAS_SAID_WHY in _exit_statuses():
        return "a worker process could not go on, for the reason that it gives above."
    return sentence_of(error)


def _exit_statuses() -> set[int | None]:
    """Of the workers that this process has started."""
    statuses: set[int | None] = set()
    for process in list(_started):  # threads of pools start others meanwhile
        with suppress(ValueError, AssertionError):  # closed, or of the process whose fork this one is
            statuses.add(process.exitcode)
    return statuses


def tie_workers(ignore_interrupts: bool = False) -> None:
    """Let all that multiprocessing starts in this process from now on end with it.

    Args:
        ignore_interrupts: whether workers leave Ctrl-C to this process.
    """

    def start(process: Any) -> None:
        target = process._target
        if target is not None and not isinstance(target, _Tied):
            process._target = _Tied(target, ignore_interrupts)
        _start(process)
        _started.append(process)

    _ANY_PROCESS.start = start
    fail_broken_pools(_exit_statuses)


@contextmanager
def tied_workers() -> Iterator[None]:
    """Let all that multiprocessing starts within end with this process; see `tie_workers`."""
    before = BaseProcess.start
    tie_workers(ignore_interrupts=True)
    try:
        yield
    finally:
        _ANY_PROCESS.start = before
        if before is _start:
            leave_pools_as_they_are()


def end_with_parent(parent: int | None = None) -> None:
    """End this process, a worker of multiprocessing, as soon as the one that started it is gone.

    Args:
        parent: its process id if its main thread started this one; then Linux does it, in the middle of a long
            computation, too. Else, or elsewhere, a thread waits for the parent's end.
    """
    if parent is not None and sys.platform == "linux" and os.getppid() == parent:
        # Linux takes the end of the thread that forked for that of the parent, hence the main thread; a fork server's
        # children have another parent than the process that asked for them.
        if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) == 0 and os.getppid() == parent:
            return
    starter = multiprocessing.parent_process()
    if starter is None:
        return

    def watch() -> None:
        starter.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def terminate_workers(workers: list[BaseProcess] | None = None) -> None:
    """End workers of this process, all of them by default, and wait until they are gone."""
    workers = multiprocessing.active_children() if workers is None else workers
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(_PATIENCE / 4)
        if worker.is_alive():
            worker.kill()
            worker.join()


@contextmanager
def worker_pool(processes: int, doing: str, fewer: str, initializer: Callable | None = None) -> Iterator:
    """Yield a ProcessPoolExecutor whose workers are fresh interpreters, and end with this process.

    Args:
        doing: what a sentence about a killed worker begins with.
        fewer: how a user asks for fewer processes: "give fewer processes with -np".

    Raises:
        XModalError: if a worker was killed. Whatever ends the block early ends the workers at once.
    """
    others = multiprocessing.active_children()
    with tied_workers():
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(processes, context, initializer=initializer)
        try:
            yield pool
        except BrokenProcessPool as error:
            raise XModalError(f"{doing}: a process was killed, probably for want of memory: {fewer}.") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            terminate_workers([worker for worker in multiprocessing.active_children() if worker not in others])
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def end_soon_after_ctrl_c() -> None:
    """Give a process that was interrupted, and ignores further Ctrl-C while it ends, 20 seconds for that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        timer = threading.Timer(_PATIENCE, os._exit, [128 + signal.SIGINT])
        timer.daemon = True
        timer.start()


def finish_in_peace() -> None:
    """Let Ctrl-C and SIGTERM interrupt nothing of what a process still does at its end; 20 seconds later they do."""

    def end_later(_: int, __: object) -> None:
        if hasattr(signal, "alarm"):  # no thread begins at the end; Windows ends a process as it is
            signal.alarm(_PATIENCE)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end_later)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and a closed terminal within raise SystemExit(128 + their number), so that `finally` is done.

    Ctrl-C raises KeyboardInterrupt as ever, but who presses it again at once, or longer, interrupts no cleaning up.
    Workers are ended then, too. A second SIGTERM, or 20 seconds, end the process as it is. `nohup` stays in force.
    What a bare `except:` of a library swallows is raised at the end: nnU-Net takes Ctrl-C for a reader that cannot read
    a file, and goes on with another one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    timers: list[threading.Timer] = []
    raised: list[BaseException] = []

    def end_soon(number: int) -> None:
        timers.append(threading.Timer(_PATIENCE, os._exit, [128 + number]))
        timers[-1].daemon = True
        timers[-1].start()

    def leave(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        end_soon(number)
        raised.append(SystemExit(128 + number))
        raise raised[-1]

    interrupted = -float(_AT_ONCE)

    def interrupt(number: int, _: object) -> None:
        nonlocal interrupted
        if time.monotonic() - interrupted < _AT_ONCE:
            return
        interrupted = time.monotonic()
        end_soon(number)
        raised.append(KeyboardInterrupt())
        raise raised[-1]

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has one
    numbers = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, leave)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
        if raised:
            raise raised[0]
    except Exception:
        if raised:  # what the library went on with has failed as well
            raise raised[0] from None
        raise
    finally:
        if timers:
            terminate_workers()
            for timer in timers:
                timer.cancel()
        for number in numbers:
            if signal.getsignal(number) is leave:
                signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is interrupt:  # a process that was interrupted ends, and may do so in peace
            signal.signal(signal.SIGINT, signal.default_int_handler if interrupted < 0 else signal.SIG_IGN)
