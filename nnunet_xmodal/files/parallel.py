"""Many cases at once, with a progress bar; one that is at fault does not hide the others."""

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from typing import TypeVar

from tqdm import tqdm

from nnunet_xmodal.errors import XModalError, first_of
from nnunet_xmodal.processes import worker_pool

Task = TypeVar("Task")


def run_all(function: Callable[[Task], str | None], tasks: Sequence[Task], processes: int, doing: str) -> None:
    """Call a function on every task, for its effects on files.

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
        with worker_pool(min(processes, len(tasks)), doing, "give fewer processes with -np") as pool:
            futures = [pool.submit(function, task) for task in tasks]
            with tqdm(as_completed(futures), **bar) as done:
                faults = [fault for future in done if (fault := future.result())]
    if faults:
        raise XModalError(first_of(sorted(faults)))
