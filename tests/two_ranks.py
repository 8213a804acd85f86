"""Pairs of processes that meet over gloo, in forks of one that has already imported torch, nnU-Net and the trainers.

Importing them twice per training takes longer than its steps. The server itself computes nothing: autograd's and
OpenMP's threads would not survive a fork.

Reads a line of JSON per training from stdin, runs `train_on_rank(rank, folder)` of a test file on both ranks, which
have met before, and answers with a line that holds the exit status of each; what they print is in
`<folder>/rank_<rank>.log`. Where the folder holds a `trainer.pkl`, `train_on_rank` gets that trainer, as it was made,
as a third argument.
"""

import json
import os
import pickle
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest  # noqa: F401
import SimpleITK  # noqa: F401
import torch
import torch._dynamo.backends.distributed  # noqa: F401
import torch._functorch.aot_autograd  # noqa: F401
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xmodal import trainers

_POLL = 0.02  # seconds
_TIMEOUT = 900


def serve() -> None:
    for name in trainers.TRAINERS:
        getattr(trainers, name)
    for line in sys.stdin:
        request = json.loads(line)
        children = [os.fork() or run(rank, **request) for rank in range(2)]
        print(json.dumps(statuses_of(children)), flush=True)


def statuses_of(children: list[int]) -> list[int]:
    """Of both, as soon as both have ended well or one has not: the other one would wait for it."""
    end, statuses = time.monotonic() + _TIMEOUT, {}
    while len(statuses) < len(children):
        for child in (child for child in children if child not in statuses):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                statuses[pid] = os.waitstatus_to_exitcode(status)
            elif any(statuses.values()) or time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
        time.sleep(_POLL)
    return [statuses[child] for child in children]


def run(rank: int, file: str, folder: str, environment: dict[str, str]) -> None:
    """Ends the process."""
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = open(os.devnull)
    output = os.open(f"{folder}/rank_{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output, stream.fileno())
    status = 1
    try:
        train_on_rank = runpy.run_path(file)["train_on_rank"]
        torch.set_num_threads(1)
        made = [
            trainer_of(file) for file in Path(folder).glob("trainer.pkl")
        ]  # before the meeting: it wants a GPU then
        torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
        train_on_rank(rank, Path(folder), *made)
        torch.distributed.destroy_process_group()
        status = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(status)


def trainer_of(file: Path) -> nnUNetTrainer:
    """Not initialised yet."""
    made = pickle.loads(file.read_bytes())
    plans = made["plans"] | {"continue_training": False}
    trainer = getattr(trainers, made["name"])
    return trainer(plans, made["configuration"], 0, made["dataset_json"], torch.device("cpu"))


def initialize_on_rank(trainer: nnUNetTrainer, rank: int, weights: Path) -> None:
    """Initialise a trainer, load weights into its network, and wrap it; what is random differs between ranks."""
    trainer.initialize()
    trainer.network.load_state_dict(torch.load(weights))
    trainer.is_ddp, trainer.local_rank = True, rank  # nnU-Net would insist on a GPU
    trainer.network = torch.nn.parallel.DistributedDataParallel(trainer.network)
    np.random.seed(rank)
    torch.manual_seed(rank)


if __name__ == "__main__":
    serve()
