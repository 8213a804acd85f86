"""Python scripts run in forks of a process that has already imported what they import, nnU-Net and us included.

Importing takes longer than most of what the tests' commands do. A command is a process of its own all the same, with
its environment, working folder, output, random numbers and process group. Two things make this sound:

- What is read from the environment on import would be the server's: a command whose environment differs from the
  server's in one of `READ_ON_IMPORT` imports nnU-Net and us anew. nnU-Net asks for its folders and for trainers'
  folders whenever it needs them.
- The server has one thread, so that no lock is held by a thread that a fork does not have.

Processes that a command starts by multiprocessing's "spawn" are forks as well where that is safe, see
`forked_spawn`, unless the command asks for fresh ones.

Two amounts are smaller than nnU-Net's, see `spare_work`.

Reads lines of JSON from stdin: `{"start": {…}}` is answered with a process id, `{"wait": pid, "timeout": seconds}` with
the exit status, or with null while the command runs. When stdin ends, so do all commands.
"""

import gc
import importlib
import json
import multiprocessing
import os
import pkgutil
import random
import runpy
import signal
import sys
import time
from contextlib import suppress

_CORES = os.sched_getaffinity(0)
os.sched_setaffinity(0, {min(_CORES)})  # blosc2 starts a thread per core when it is imported

import matplotlib.pyplot  # noqa: F401
import nnunetv2
import numpy as np
import scipy.stats  # noqa: F401
import seaborn  # noqa: F401
import torch._dynamo
import torch._inductor
from forked_spawn import fork_instead_of_spawn, threads
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

import nnunet_xmodal.planners
import nnunet_xmodal.trainers

READ_ON_IMPORT = ("nnUNet_def_n_proc", "OMP_NUM_THREADS")
"""By nnU-Net's configuration.py, for many default arguments, and by torch."""

_COMMANDS = (
    "nnunetv2.ensembling.ensemble",
    "nnunetv2.evaluation.find_best_configuration",
    "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints",
    "nnunetv2.inference.predict_from_raw_data",
    "nnunetv2.model_sharing.entry_points",
    "nnunetv2.run.run_training",
)
_POLL = 0.02  # seconds


def import_everything() -> None:
    """What commands import at some time: nnU-Net looks for a trainer in all its modules of trainers.

    Raises:
        RuntimeError: if a thread was started.
    """
    for name in _COMMANDS:
        importlib.import_module(name)
    searched = [f"{folder}/training/nnUNetTrainer" for folder in nnunetv2.__path__]
    packages = (
        # of a checkout that is not installed its root as well, where setup.py lies
        (nnunet_xmodal.__path__[:1], "nnunet_xmodal."),
        (nnunet_xmodal.trainers.__path__, "nnunet_xmodal.trainers."),
        (nnunet_xmodal.planners.__path__, "nnunet_xmodal.planners."),
        (searched, "nnunetv2.training.nnUNetTrainer."),
    )
    for path, prefix in packages:
        for module in pkgutil.walk_packages(path, prefix):
            if not module.name.startswith("nnunet_xmodal.plugin"):  # nnU-Net imports it under a name of its own
                importlib.import_module(module.name)
    if threads() > 1:
        raise RuntimeError("a module has started a thread when it was imported: commands cannot be forked.")


def spare_work() -> None:
    """Less of what no command's outcome on tiny data depends on.

    nnU-Net draws 10⁸ foreground voxels of a dataset, with replacement, for means and percentiles, and draws
    progress.png with 3000×5400 pixels after every epoch.
    """
    DatasetFingerprintExtractor.num_foreground_voxels_for_intensitystats = property(lambda _: 1e6, lambda *_: None)
    matplotlib.pyplot.rcParams["figure.dpi"] = 20


def serve() -> None:
    import_everything()
    os.sched_setaffinity(0, _CORES)
    spare_work()
    gc.freeze()  # or a fork's first collection copies all of it
    running = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            child = os.fork()
            if child == 0:
                return run(**request["start"])
            os.setpgid(child, child)
            running.add(child)
            answer = child
        else:
            answer = status_of(request["wait"], request["timeout"])
            if answer is not None:
                running.discard(request["wait"])
        print(json.dumps(answer), flush=True)
    for child in running:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)


def status_of(child: int, timeout: float) -> int | None:
    """Exit status, negative for a signal; None if it runs longer than that."""
    end = time.monotonic() + timeout
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(_POLL)


def run(script: str, arguments: list[str], environment: dict[str, str], folder: str, output: str, spawn: bool) -> None:
    """What `python script arguments` does, with stdout and stderr in files `<output>.out` and `<output>.err`."""
    with suppress(PermissionError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    reads_the_same = all(os.environ.get(name) == environment.get(name) for name in READ_ON_IMPORT)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [(os.devnull, os.O_RDONLY), (f"{output}.out", flags), (f"{output}.err", flags)]
    for descriptor, (name, flags) in enumerate(files):
        file = os.open(name, flags)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdin = open(0, closefd=False)
    np.random.seed()  # as every process of its own
    random.seed()
    torch.seed()
    if not reads_the_same:
        for name in list(sys.modules):
            if name.split(".")[0] in ("nnunetv2", "nnunet_xmodal"):
                del sys.modules[name]
    if not spawn:
        # nnU-Net computes with a thread per core, and a process with threads cannot be forked
        multiprocessing.cpu_count = lambda: 1
        fork_instead_of_spawn()
    sys.argv = [script, *arguments]
    sys.path[0] = os.path.dirname(script)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    serve()
