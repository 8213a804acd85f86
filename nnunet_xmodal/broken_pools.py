"""Pools of multiprocessing that end although a worker was killed.

A worker that waits for its next task holds the lock of the queue. Killed then, as Linux does where the memory is full,
it never gives the lock back, and whoever ends the pool waits for it for ever: nnU-Net, too, when it has noticed that a
worker is gone and wants to say so.
"""

import threading
from collections.abc import Callable
from multiprocessing.pool import Pool
from typing import Any

_PATIENCE = 5.0  # seconds that the end of a pool may take once a worker was killed
_POLL = 0.05
_ANY_POOL: Any = Pool  # a private method is replaced, which its type does not foresee
_terminate_pool: Callable[..., None] = _ANY_POOL._terminate_pool.__func__


def end_broken_pools(exit_statuses: Callable[[], set[int | None]]) -> None:
    """Let pools that are made from now on end within seconds after a worker of this process was killed.

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

    _ANY_POOL._terminate_pool = classmethod(end)


def _try(failures: list[Exception], *arguments: Any) -> None:
    try:
        _terminate_pool(*arguments)
    except Exception as error:
        failures.append(error)


def end_pools_as_ever() -> None:
    """Undo `end_broken_pools` for pools that are made from now on."""
    _ANY_POOL._terminate_pool = classmethod(_terminate_pool)
