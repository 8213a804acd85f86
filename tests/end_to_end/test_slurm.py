"""Trainings through a real Slurm: a controller and a node that are started for these tests alone.

They need Debian's packages (`apt install slurm-wlm munge`), no rights and no configuration, and are skipped without:

    pytest -m slurm
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

DATASET = "Dataset901_Phantom"
FAILING = "nnUNetTrainerFailsInFold1"
ONE_EPOCH = "nnUNetTrainer_1epochs_2its"
SIZE = ("--cpus", 1, "--mem", "500M", "--time", "1:00:00")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Its environment variables."""
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found: apt install slurm-wlm munge")
    trainers = tmp_path_factory.mktemp("trainers")
    (trainers / "fails_in_fold_1.py").write_text(
        f"from nnunet_xmodal.trainers import {ONE_EPOCH}\n\n\n"
        f"class {FAILING}({ONE_EPOCH}):\n"
        "    def on_train_start(self):\n"
        "        if self.fold == 1:\n"
        "            raise RuntimeError('fold 1 is odd')\n"
        "        super().on_train_start()\n"
    )
    with tempfile.TemporaryDirectory(prefix="slurm") as folder:  # pytest's own are too long for a socket's name
        cluster = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("slurm_cluster.py")), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = cluster.stdout.readline()
        assert line.startswith("export SLURM_CONF="), "the cluster did not start"
        yield {"SLURM_CONF": line.split("=", 1)[1].strip(), "nnUNet_extTrainer": str(trainers)}
        cluster.stdin.close()
        cluster.wait()


@pytest.fixture
def crossval(workspace, slurm):
    """`(arguments)` → what nnUNetXModal_crossval prints."""

    def run(*arguments, fails: bool = False) -> str:
        what = ("-d", 901, *arguments, "--executor", "slurm")
        return workspace.run("nnUNetXModal_crossval", *what, fails=fails, **slurm)

    return run


@pytest.fixture
def ask(slurm):
    """`(command, arguments)` → what one of Slurm's own commands prints."""

    def run(*command: str) -> str:
        environment = {**os.environ, **slurm}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    return run


def wait_for(condition, seconds: float = 600) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "the condition did not come true"
        sleep(0.2)


def finished(workspace) -> set[tuple[str, str]]:
    """Trainer and fold; other tests leave theirs in the same results."""
    files = (workspace.results / DATASET).glob("*/fold_*/validation/summary.json")
    found = {(file.parents[2].name.split("__")[0], file.parents[1].name.removeprefix("fold_")) for file in files}
    return {(trainer, fold) for trainer, fold in found if trainer in (ONE_EPOCH, FAILING)}


def epochs_begun(log: str) -> list[int]:
    return [int(epoch) for epoch in re.findall(r"Epoch (\d+) *$", log, flags=re.MULTILINE)]


def test_trainers_and_folds(workspace, crossval, ask):
    command = ("-c", "2d", "-tr", ONE_EPOCH, FAILING, "-f", 0, 1, "-device", "cpu", *SIZE)
    output = crossval(*command)
    assert "4 submitted, 0 in the queue before, 0 finished before" in output
    (first,) = set(re.findall(r"fold 0: submitted as (\d+)_\d, log", output))
    (second,) = set(re.findall(rf"fold 1: submitted as (\d+)_\d, waits for after:{first}_0:{first}_1, log", output))

    assert "0 submitted, 4 in the queue before, 0 finished before" in crossval(*command)

    wait_for(lambda: not ask("squeue", "--noheader"))
    assert finished(workspace) == {(ONE_EPOCH, "0"), (ONE_EPOCH, "1"), (FAILING, "0")}
    # the folds that wait begin when their leader trains, and no sooner
    began = {fold: workspace.log(DATASET, ONE_EPOCH, "2d", fold) for fold in (0, 1)}
    epoch_0 = re.search(r"^(.*): Epoch 0 *$", began[0], flags=re.MULTILINE)[1]
    assert epoch_0 < re.search(r"^(\d{4}-.*?): ", began[1], flags=re.MULTILINE)[1]

    output = crossval(*command)
    assert f"{FAILING}__nnUNetPlans__2d, fold 1: Slurm job {second}_1 ended before this was finished" in output
    assert "RuntimeError: fold 1 is odd" in output
    assert "1 submitted, 0 in the queue before, 3 finished before" in output
    ask("scancel", "--user", str(os.getuid()))


def test_interrupted_trainings_continue(workspace, crossval, ask):
    trainer = "nnUNetTrainerCSAD_6epochs_3its"
    command = ("-c", "2d", "-tr", trainer, "-f", 0, "-device", "cpu", *SIZE)
    (id,) = re.findall(r"submitted as (\d+), log", crossval(*command))

    # what Slurm sends shortly before the time limit, to every process of the job
    wait_for(lambda: 2 in epochs_begun(workspace.log(DATASET, trainer, "2d")))
    ask("scancel", "--signal=USR2", id)
    wait_for(lambda: "PENDING" in ask("squeue", "--noheader", "--format=%T"))
    assert not trainings(trainer)
    before = epochs_begun(workspace.log(DATASET, trainer, "2d"))
    wait_for(lambda: not ask("squeue", "--noheader"))

    begun = epochs_begun(workspace.log(DATASET, trainer, "2d"))
    assert begun[: len(before)] == before == list(range(len(before)))
    assert begun[len(before) :] in (list(range(len(before) - 1, 6)), list(range(len(before), 6)))  # one lost at most
    log = (workspace.model(DATASET, trainer, "2d") / "fold_0" / "crossval_log.txt").read_text()
    assert [line.endswith("--c") for line in log.splitlines() if "nnUNetv2_train " in line] == [False, True]
    assert "0 submitted, 0 in the queue before, 1 finished before" in crossval(*command)


def trainings(trainer: str) -> list[str]:
    """Command lines of the processes of a training."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_text().split("\0")
        except OSError:
            continue
        if trainer in words:
            found.append(" ".join(words))
    return found


def test_options_and_order_of_stages(crossval, ask):
    stages = ("-c", "3d_lowres", "3d_cascade_fullres", "-f", "all", "-tr", ONE_EPOCH, "-num_gpus", 2)
    size = ("--partition", "other", "--time", "1-12", "--mem", "2G", "--cpus", 2)
    command = (*stages, *size, "--slurm", "begin=now+1hour", "comment=tiny", "nice=7", "export=NONE")
    output = crossval(*command)
    first, second = re.findall(r"submitted as (\d+)", output)
    assert f"submitted as {second}, waits for afterok:{first}, log" in output
    shown = ask("scontrol", "show", "job", first)
    for expected in (
        "Partition=other",
        "TimeLimit=1-12:00:00",
        "MinMemoryNode=2G",
        "CPUs/Task=2",
        "TresPerNode=gres:gpu:2",
        "Comment=tiny",
        "Nice=7",
        "Requeue=1",
    ):
        assert expected in shown

    assert f"Dependency=afterok:{first}" in ask("scontrol", "show", "job", second)
    assert f"pending as {first} (BeginTime)" in crossval(*command)

    # a stage whose previous stage ended badly leaves the queue, instead of waiting for good
    ask("scancel", first)
    wait_for(lambda: not ask("squeue", "--noheader"))
    assert f"Slurm job {second} ended before this was finished: it did not start" in crossval(*command)
    ask("scancel", "--user", str(os.getuid()))


def test_refusal_is_one_sentence(crossval):
    command = ("-c", "2d", "-tr", "nnUNetTrainer_3epochs_2its", "-f", 0, "-device", "cpu", "--partition", "none")
    output = crossval(*command, fails=True)
    assert "error: sbatch does not take the jobs" in output and "invalid partition" in output
    assert "Traceback" not in output
