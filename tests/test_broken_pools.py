"""Pools fail and end, whoever was killed."""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque

import pytest

from nnunet_xmodal import broken_pools, processes
from nnunet_xmodal.processes import failure_of, tied_workers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no fork and no signals: Linux and macOS do")


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setattr(broken_pools, "_PATIENCE", 0.3)
    monkeypatch.setattr(processes, "_started", deque(maxlen=256))


def _pool():
    pool = multiprocessing.get_context("fork").Pool(2)
    assert pool.map(abs, [-1, -2]) == [1, 2]
    return pool


def _terminated(pool, within: float) -> bool:
    ending = threading.Thread(target=pool.terminate, daemon=True)
    ending.start()
    ending.join(within)
    return not ending.is_alive()


def test_a_pool_whose_idle_worker_was_killed_with_the_lock_ends():
    with tied_workers():
        pool = _pool()
    _await(lambda: _is_held(pool._inqueue._rlock))  # by the worker that is to have the next task
    for process in list(pool._pool):
        os.kill(process.pid, signal.SIGKILL)
    assert _terminated(pool, 10)
    assert _is_held(pool._inqueue._rlock)  # for good: that is what everybody else waits for
    for process in pool._pool:
        process.join(5)
        assert not process.is_alive()


def _await(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _die(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


WAYS = {
    "map": lambda pool: pool.map(_die, range(4), chunksize=1),
    "starmap": lambda pool: pool.starmap(_die, [(number,) for number in range(4)]),
    "apply": lambda pool: pool.apply(_die, (1,)),
    "imap": lambda pool: list(pool.imap(_die, range(4))),
    "imap_unordered": lambda pool: list(pool.imap_unordered(_die, range(4))),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_killed_worker_owes_is_an_error_and_so_is_what_is_asked_for_afterwards(way):
    with tied_workers():
        pool = _pool()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="^Some background worker was killed") as failure:
            WAYS[way](pool)
        assert "the memory was full" in failure_of(failure.value)
    assert _terminated(pool, 10)
    _await(lambda: id(pool._pool) not in broken_pools._pending)


def test_workers_that_have_done_their_share_are_replaced_as_ever():
    with tied_workers():
        pool = multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1)
    assert pool.map(abs, range(-6, 0), chunksize=1) == [6, 5, 4, 3, 2, 1]
    assert _terminated(pool, 10)


def _is_held(lock) -> bool:
    if lock.acquire(block=False):
        lock.release()
        return False
    return True


def test_other_pools_end_as_ever():
    with tied_workers():
        inside = _pool()
    broken_pools.leave_pools_as_they_are()
    outside = _pool()
    assert id(inside._pool) in broken_pools._pending and id(outside._pool) not in broken_pools._pending
    for pool in (inside, outside):
        workers = list(pool._pool)
        assert _terminated(pool, 10)
        assert not any(worker.is_alive() for worker in workers)


def test_what_goes_wrong_at_the_end_is_raised(monkeypatch):
    def fail(*_):
        raise AssertionError("Cannot have cache with result_hander not alive")

    pool = _pool()
    monkeypatch.setattr(broken_pools, "_terminate_pool", fail)
    broken_pools.fail_broken_pools(set)
    try:
        with pytest.raises(AssertionError, match="not alive"):
            type(pool)._terminate_pool([], [], [], [])
    finally:
        monkeypatch.undo()
        broken_pools.leave_pools_as_they_are()
        pool.terminate()


def test_a_worker_that_ends_while_others_are_looked_at_is_noticed(monkeypatch):
    class Worker:
        looks = 0

        @property
        def exitcode(self) -> int | None:
            self.looks += 1
            return None if self.looks == 1 else -9

        def join(self) -> None:
            pass

    workers, failed = [Worker()], []
    monkeypatch.setitem(broken_pools._pending, id(workers), {})
    monkeypatch.setattr(broken_pools, "_fail_all", lambda *_: failed.append(True))
    while workers:
        broken_pools._join_and_look(workers)
    _await(lambda: failed == [True])


def test_workers_may_start_while_the_statuses_of_others_are_read():
    class Worker:
        @property
        def exitcode(self) -> int:
            processes._started.append(Worker())  # as a pool's thread does
            return -9

    processes._started.append(Worker())
    assert processes._exit_statuses() == {-9}


def test_a_result_that_comes_with_the_news_of_a_killed_worker_is_forgotten():
    with tied_workers():
        pool = _pool()
    result = pool.map_async(time.sleep, [0.5, 0.5], chunksize=1)
    broken_pools._fail(result)
    result._success = True  # what the thread that collects results has seen a moment before
    result._set(0, (True, [None]))
    with pytest.raises(RuntimeError, match="^Some background worker was killed"):
        raise result._value
    assert _terminated(pool, 10)
