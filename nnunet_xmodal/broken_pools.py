"""Pools of multiprocessing that fail and end when a worker was killed, in place of waiting for ever.

Whoever kills a worker, as Linux does where the memory is full, takes its task along, and with it, if the worker waited
for one, the lock of the queue: no other worker gets a task any more, and the pool does not even end. nnU-Net looks
after the workers of some of its pools and then wants to end them, and waits for results of others.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.pool import ApplyResult, MapResult, Pool
from typing import Any

_PATIENCE = 5.0  # seconds that the end of a pool may take once a worker was killed
_POLL = 0.05
_ANY_POOL: Any = Pool  # private methods are replaced, which its type does not foresee
_RESULT: Any = ApplyResult
_OF_PARTS: Any = MapResult
_terminate_pool: Callable[..., None] = _ANY_POOL._terminate_pool.__func__
_handle_workers: Callable[..., None] = _ANY_POOL._handle_workers.__func__
_join_exited_workers: Callable[[list], bool] = _ANY_POOL._join_exited_workers
_pending: dict[int, dict] = {}
"""Of the pools that are looked after, by the id of their lists of workers: what they still owe."""


def fail_broken_pools(exit_statuses: Callable[[], set[int | None]]) -> None:
    """Let pools that are made from now on fail, and end within seconds, when one of their workers was killed.

    What they owe is answered with a RuntimeError, as nnU-Net words it where it looks after the workers itself.

    Args:
        exit_statuses: gives those of all workers of this process, of a killed one a negative number.
    """

    def end(cls: type[Pool], *arguments: Any) -> None:
        # a pool's queues, its workers, and the threads that serve them; called once, by whoever ends it
        failures: list[Exception] = []
        ending = threading.Thread(target=_try, args=(failures, cls, *arguments), daemon=True)
        try:
            ending.start()
        except RuntimeError:  # no thread begins while the interpreter ends
            _terminate_pool(cls, *arguments)
            return
        ending.join(_PATIENCE)
        while ending.is_alive() and not any(status and status < 0 for status in exit_statuses()):
            ending.join(_POLL)
        if failures:
            raise failures[0]
        if ending.is_alive():
            for worker in list(arguments[3]):
                worker.kill()

    def look_after(cls: type[Pool], cache: dict, *arguments: Any) -> None:
        # the body of the thread that replaces workers which have done their share; `arguments[4]` are the workers
        _pending[id(arguments[4])] = cache
        try:
            _handle_workers(cls, cache, *arguments)
        finally:
            del _pending[id(arguments[4])]

    _ANY_POOL._terminate_pool = classmethod(end)
    _ANY_POOL._handle_workers = classmethod(look_after)
    _ANY_POOL._join_exited_workers = staticmethod(_join_and_look)


def leave_pools_as_they_are() -> None:
    """Undo `fail_broken_pools` for pools that are made from now on."""
    _ANY_POOL._terminate_pool = classmethod(_terminate_pool)
    _ANY_POOL._handle_workers = classmethod(_handle_workers)
    # _join_exited_workers stays: pools that are looked after still call it, and it leaves all others alone


def _try(failures: list[Exception], *arguments: Any) -> None:
    try:
        _terminate_pool(*arguments)
    except Exception as error:
        failures.append(error)


def _join_and_look(workers: list) -> bool:
    """Do as the pool's own method of this name, in the thread that replaces workers; see whether one was killed."""
    before = list(workers)
    are_gone = _join_exited_workers(workers)
    # of those that it has taken out, and of no others: one may end at any moment
    killed = any(worker.exitcode for worker in before if worker not in workers)
    pending = _pending.get(id(workers))
    if killed and pending is not None:
        handler = threading.current_thread()
        threading.Thread(target=_fail_all, args=(pending, handler), daemon=True).start()
    return are_gone


def _fail_all(pending: dict, handler: threading.Thread) -> None:
    """Answer what a pool owes, and what it is asked for afterwards, until it ends."""
    while True:
        for result in list(pending.values()):
            _fail(result)
        if not handler.is_alive():
            return
        time.sleep(_POLL)


class _WorkerKilled(RuntimeError):
    """What a pool answers with in place of a list of results."""

    def __str__(self) -> str:
        return "Some background worker was killed, or ended too early: what it did is lost."

    def __setitem__(self, key: object, value: object) -> None:
        """Forget a result: the thread that collects them may be about to add one to the list that stood here."""


def _fail(result: Any) -> None:
    error = _WorkerKilled()
    if not isinstance(result, _RESULT):  # an iterator: its next item
        with suppress(KeyError):  # all were there a moment ago
            result._set(result._index, (False, error))
    elif not isinstance(result, _OF_PARTS) or "_number_left" in vars(result):  # else it is just being made
        result._success, result._value = False, error
        result._cache.pop(result._job, None)
        result._event.set()
