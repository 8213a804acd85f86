"""Many cases at once, with a progress bar; one that is at fault does not hide the others."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

from nnunet_xmodal.errors import XModalError, first_of

Task = TypeVar("Task")


def run_all(function: Callable[[Task], str | None], tasks: Sequence[Task], processes: int, doing: str) -> None:
    """Calls a function for its effects on files.

    Args:
        function: of a module, so that it pickles; returns one sentence if the task is at fault.

    Raises:
        XModalError: with the first fault and the number of others, when all tasks have been looked at; if a process was
            killed.
    """
    if not tasks:
        return
    bar = {"total": len(tasks), "desc": doing}
    if processes == 1 or len(tasks) == 1:
        with tqdm(map(function, tasks), **bar) as results:
            faults = [fault for fault in results if fault]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(processes, len(tasks)), context, initializer=_end_with_parent) as pool:
            futures = [pool.submit(function, task) for task in tasks]
            try:
                with tqdm(as_completed(futures), **bar) as done:
                    faults = [fault for future in done if (fault := future.result())]
            except BrokenProcessPool as error:
                raise XModalError(
                    f"{doing}: a process was killed, probably for want of memory: give fewer processes with -np."
                ) from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    if faults:
        raise XModalError(first_of(sorted(faults)))


def _end_with_parent() -> None:
    """Workers of a process that was killed would wait for tasks for ever."""

    def end() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
