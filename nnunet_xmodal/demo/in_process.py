"""nnU-Net without processes of its own: each of them would import torch once more, for milliseconds of work."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.pool import ThreadPool


class _Threads:
    """What nnU-Net uses of a multiprocessing context."""

    Pool = staticmethod(ThreadPool)


@contextmanager
def pools_of_threads() -> Iterator[None]:
    """Within, `multiprocessing.get_context("spawn").Pool(n)` is a pool of n threads of this process."""
    get_context = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: _Threads if method == "spawn" else get_context(method)
    try:
        yield
    finally:
        multiprocessing.get_context = get_context


@contextmanager
def loading_in_this_thread() -> Iterator[None]:
    """Within, nnU-Net's loader leaves the number of threads as it is.

    Before every batch it looks through all libraries of this process to set that number to one: as long as it takes to
    load and augment two small slices.
    """
    from nnunetv2.training.dataloading import data_loader

    limits = data_loader.threadpool_limits
    data_loader.threadpool_limits = lambda **_: nullcontext()
    try:
        yield
    finally:
        data_loader.threadpool_limits = limits
