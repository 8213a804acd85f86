"""nnU-Net without processes of its own: each of them would import torch once more, for milliseconds of work."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.pool import ThreadPool
from typing import Any


class _Threads:
    """What nnU-Net uses of a multiprocessing context."""

    Pool = staticmethod(ThreadPool)


@contextmanager
def pools_of_threads() -> Iterator[None]:
    """Make `multiprocessing.get_context("spawn").Pool(n)` a pool of n threads of this process."""
    get_context = multiprocessing.get_context

    replacement: Any = lambda method=None: _Threads if method == "spawn" else get_context(method)  # noqa: E731
    multiprocessing.get_context = replacement
    try:
        yield
    finally:
        multiprocessing.get_context = get_context


@contextmanager
def loading_in_this_thread() -> Iterator[None]:
    """Keep nnU-Net's loader from changing the number of threads.

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
