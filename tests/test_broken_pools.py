"""Pools end, whoever was killed."""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque

import pytest

from nnunet_xmodal import broken_pools, processes
from nnunet_xmodal.processes import tied_workers

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
    deadline = time.monotonic() + 5
    while not _is_held(pool._inqueue._rlock):  # by the worker that is to have the next task
        assert time.monotonic() < deadline
    for process in list(pool._pool):
        os.kill(process.pid, signal.SIGKILL)
    assert _terminated(pool, 10)
    assert _is_held(pool._inqueue._rlock)  # for good: that is what everybody else waits for
    for process in pool._pool:
        process.join(5)
        assert not process.is_alive()


def _is_held(lock) -> bool:
    if lock.acquire(block=False):
        lock.release()
        return False
    return True


def test_other_pools_end_as_ever():
    with tied_workers():
        inside = _pool()
    outside = _pool()
    assert vars(multiprocessing.pool.Pool)["_terminate_pool"].__func__ is broken_pools._terminate_pool
    for pool in (inside, outside):
        workers = list(pool._pool)
        assert _terminated(pool, 10)
        assert not any(worker.is_alive() for worker in workers)


def test_what_goes_wrong_at_the_end_is_raised(monkeypatch):
    def fail(*_):
        raise AssertionError("Cannot have cache with result_hander not alive")

    pool = _pool()
    monkeypatch.setattr(broken_pools, "_terminate_pool", fail)
    failing = broken_pools.end_broken_pools
    failing(set)
    try:
        with pytest.raises(AssertionError, match="not alive"):
            type(pool)._terminate_pool([], [], [], [])
    finally:
        monkeypatch.undo()
        broken_pools.end_pools_as_ever()
        pool.terminate()
