"""Commands that run in forks are told from commands in fresh processes by nothing but their time."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TELLS = """\
import json, os, random, signal, sys
environment = dict(os.environ)  # libraries set more of it
import numpy as np
import torch
import nnunetv2
from nnunetv2 import configuration, paths
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
import nnunet_xmodal.trainers.base.few_shot as ours
import inspect

print(json.dumps({
    "environment": environment,
    "folder": os.getcwd(),
    "arguments": sys.argv,
    "path": sys.path[0],
    "stdin": sys.stdin.read(),
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "name": __name__,
    "leader": os.getpgid(0) == os.getpid(),
    "raw": paths.nnUNet_raw.get(),
    "processes": [
        configuration.default_num_processes,
        ours.default_num_processes,
        inspect.signature(compute_metrics_on_folder).parameters["num_processes"].default,
    ],
    "threads": torch.get_num_threads(),
    "version": nnunetv2.__file__,
}))
sys.stderr.write("to stderr")
sys.exit(7)
"""
DRAWS = "import numpy, random, torch; print(numpy.random.rand(), random.random(), torch.rand(1).item())"
SPAWNS = """\
import multiprocessing, os, sys
from multiprocessing import get_context


class Named:
    def __init__(self, name):
        self.name = name

    def __setstate__(self, state):
        self.name = state["name"] + " unpickled"


def tell(given):
    return given.name, "torch" in sys.modules, os.environ["COLOUR"], os.getppid(), __name__


def send(queue, connection, lock):
    with lock:
        queue.put("queue")
        connection.send("connection")
        connection.close()


if __name__ == "__main__":
    context = get_context("spawn")
    with context.Pool(2) as pool:
        (answers,) = {tuple(answer) for answer in pool.map(tell, [Named("one")] * 4)}
    assert answers[3] == os.getpid()
    queue, lock, (ours, theirs) = context.Queue(), context.Lock(), context.Pipe()
    process = context.Process(target=send, args=(queue, theirs, lock))
    process.start()
    assert (queue.get(timeout=60), ours.recv()) == ("queue", "connection")
    process.join()
    assert process.exitcode == 0
    try:
        context.Process(target=lambda: None).start()
    except Exception as error:
        print(type(error).__name__)
    print(*answers[:3])
"""


def script(folder: Path, text: str) -> Path:
    file = folder / "script.py"
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def space(make_workspace):
    return make_workspace("commands")


@pytest.mark.parametrize("changed", [{}, {"nnUNet_def_n_proc": "3", "nnUNet_raw": None, "COLOUR": "red"}])
def test_a_command_finds_what_a_process_of_its_own_finds(space, tmp_path, changed):
    tells = script(tmp_path, TELLS)
    command = space.start(sys.executable, tells, "one", "two words", **changed)
    assert command.wait() == 7
    told, to_stderr, _ = command.output().partition("to stderr")
    environment = {name: value for name, value in (space.environment | changed).items() if value is not None}
    fresh = subprocess.run(
        [sys.executable, tells, "one", "two words"],
        env=environment,
        cwd=space.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert json.loads(told.splitlines()[-1]) == json.loads(fresh.stdout.splitlines()[-1])
    assert to_stderr and fresh.stderr.endswith("to stderr") and fresh.returncode == 7


def test_every_command_draws_numbers_of_its_own(space, tmp_path):
    draws = script(tmp_path, DRAWS)
    numbers = [space.run(sys.executable, draws).split() for _ in range(2)]
    assert len({*numbers[0], *numbers[1]}) == 6


@pytest.mark.parametrize("spawn", [False, True])
def test_spawned_processes_work_on_what_they_unpickle(space, tmp_path, spawn):
    """In a fork or, where the command asks for it, in a fresh interpreter, which has not imported torch."""
    said = space.run(sys.executable, script(tmp_path, SPAWNS), spawn=spawn, COLOUR="red")
    error, answers = said.splitlines()[-2:]
    assert answers == f"one unpickled {not spawn} red" and "Error" in error


def test_a_command_is_watched_and_killed_with_its_children(space, tmp_path):
    sleeps = (
        "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); print('up', flush=True); time.sleep(600)"
    )
    commands = [space.start(sys.executable, script(tmp_path, sleeps)) for _ in range(2)]
    for command, number in zip(commands, (signal.SIGKILL, signal.SIGTERM)):
        while "up" not in command.output():
            time.sleep(0.02)
        assert command.poll() is None
        command.kill(number)
        assert command.wait() == command.poll() == -number
        for _ in range(500):
            if not alive(command.pid):
                break
            time.sleep(0.02)
        assert not alive(command.pid)
    command = space.start(sys.executable, script(tmp_path, sleeps))
    with pytest.raises(TimeoutError, match="script.py"):
        command.wait(0.1)
    assert command.wait() == -signal.SIGKILL


def alive(group: int) -> bool:
    """Whether a process of the group is left that is no zombie."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = file.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # has just ended
            continue
        if int(its_group) == group and state != "Z":
            return True
    return False
