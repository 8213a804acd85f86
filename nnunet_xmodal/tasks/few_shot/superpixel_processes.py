"""Superpixels of many volumes at once.

Slices go to the workers one by one, so that none is left with a case while others wait, and as pixels: a worker imports
this file and what it needs, no torch and nothing that reads cases, so that it soon begins. This process is one of them:
what no worker has begun when it would have to wait, it does itself, from the first moment on.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from nnunet_xmodal.processes import worker_pool
from nnunet_xmodal.tasks.few_shot.superpixels import SuperpixelSettings, felzenszwalb_superpixels, intensity_range


class _Pending(NamedTuple):
    case: str
    volume: np.ndarray
    of_slice: Callable[[np.ndarray], np.ndarray]
    slices: list[Future]


def computed(
    volumes: Iterable[tuple[str, np.ndarray]], settings: SuperpixelSettings, processes: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield case and int32 `(slices, H, W)`, in the order of the volumes, of which few are held at a time.

    Args:
        volumes: case and `(C, slices, H, W)`; intensities are scaled by the range of the whole volume.
        processes: each of one thread, this one among them.

    Raises:
        XModalError: if a process was killed; see also `superpixels.felzenszwalb_superpixels`.
    """
    if processes <= 1:
        for case, volume in volumes:
            of_slice = partial(felzenszwalb_superpixels, settings=settings, intensities=intensity_range(volume))
            yield case, np.stack([of_slice(volume[:, index]) for index in range(volume.shape[1])])
        return
    pending: deque[_Pending] = deque()
    fewer = "take fewer processes (nnUNet_def_n_proc)"
    with worker_pool(processes - 1, "making superpixels", fewer, _one_thread) as pool, threadpool_limits(1):
        for case, volume in volumes:
            of_slice = partial(felzenszwalb_superpixels, settings=settings, intensities=intensity_range(volume))
            slices = [pool.submit(of_slice, np.ascontiguousarray(part)) for part in volume.swapaxes(0, 1)]
            pending.append(_Pending(case, volume, of_slice, slices))
            while len(pending) > 2 and sum(len(others.slices) for others in list(pending)[1:]) > 4 * processes:
                yield _finished(pending.popleft())
        while pending:
            yield _finished(pending.popleft())


def _finished(pending: _Pending) -> tuple[str, np.ndarray]:
    """All slices of a case: workers go on from its first one, and this process from its last one towards them."""
    own = {}
    for index in reversed(range(len(pending.slices))):
        if pending.slices[index].cancel():  # only what has not begun
            own[index] = pending.of_slice(pending.volume[:, index])
    slices = (own[index] if index in own else future.result() for index, future in enumerate(pending.slices))
    return pending.case, np.stack(list(slices))


def _one_thread() -> None:
    threadpool_limits(1)
