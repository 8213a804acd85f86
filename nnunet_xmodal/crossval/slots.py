"""Where trainings run on this machine: one slot for each that runs at once."""

import os
from collections.abc import Sequence

from nnunet_xmodal.crossval.local import Slot
from nnunet_xmodal.crossval.request import CrossvalRequest
from nnunet_xmodal.errors import XModalError


def slots_of(request: CrossvalRequest) -> list[Slot]:
    """Return the GPUs of each training that runs at once, `"0"` or `"0,1"`; None for one without any.

    Raises:
        XModalError: for GPUs that do not exist, or too few of them.
    """
    if request.device != "cuda":
        if request.gpus is not None:
            raise XModalError(f"--gpus goes with -device cuda, not with -device {request.device}.")
        return [None] * (request.trainings_at_once or 1)
    gpus, n = _usable_gpus(request.gpus), request.gpus_per_training
    if len(gpus) < n:
        raise XModalError(f"-num_gpus {n} needs as many GPUs, but there are {len(gpus)}.")
    slots = [",".join(gpus[first : first + n]) for first in range(0, len(gpus) - n + 1, n)]
    return [slots[index % len(slots)] for index in range(request.trainings_at_once or len(slots))]


def _usable_gpus(wanted: Sequence[str] | None) -> list[str]:
    """Return the wanted GPUs of this machine, or all that CUDA sees."""
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        raise XModalError("there is no CUDA device: add -device cpu.")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # CUDA ignores what follows the first ID that it does not know
    known = [gpu.strip() for gpu in visible.split(",")][:count] if visible else [str(i) for i in range(count)]
    for gpu in wanted or ():
        if gpu not in known:
            raise XModalError(f"--gpus {gpu} is none of this machine's: take from {' '.join(known)}.")
    return list(wanted or known)
