"""The real `nnUNetXModal_crossval` with real trainings of a few iterations."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import pytest

pytestmark = pytest.mark.slow

DATASET = "Dataset901_Phantom"
CSAD = "nnUNetTrainerCSAD_1epochs_1its"
STOCK = "nnUNetTrainer_1epochs_1its"
BIN = Path(sys.executable).parent


@pytest.fixture
def space(workspace, tmp_path):
    """Preprocessed data of one's own, and no results."""
    space = type(workspace)(tmp_path)
    shutil.copytree(workspace.preprocessed / DATASET, space.preprocessed / DATASET)
    return space


@pytest.fixture
def subjects(space, tmp_path) -> Path:
    """Every case is of a subject of its own, but for the first two."""
    cases = sorted(file.name.split(".")[0] for file in (space.preprocessed / DATASET / "gt_segmentations").iterdir())
    table = tmp_path / "subjects.csv"
    table.write_text("".join(f"{case},{cases[max(index, 1)]}\n" for index, case in enumerate(cases)))
    return table


def crossval(space, *arguments, configurations=("2d",), **options) -> str:
    words = ("-d", 901, "-c", *configurations, "-device", "cpu", *arguments)
    return space.run("nnUNetXModal_crossval", *words, **{"nnUNet_n_proc_DA": "0", **options})


def summary(space, trainer: str, configuration: str, fold: int | str) -> Path:
    return space.model(DATASET, trainer, configuration) / f"fold_{fold}" / "validation" / "summary.json"


def epochs_begun(log: str) -> list[int]:
    return [int(epoch) for epoch in re.findall(r"Epoch (\d+) *$", log, flags=re.MULTILINE)]


def run_printed(space, *arguments, **environment: str) -> str:
    """What `--executor print` prints, after a shell has run it."""
    command = ["nnUNetXModal_crossval", "-d", 901, "-c", "2d", "-device", "cpu", *arguments, "--executor", "print"]
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(map(str, command))} | tee script | sh -e"],
        env={**space.environment, "nnUNet_n_proc_DA": "0", "PATH": path, **environment},
        cwd=space.root,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (space.root / "script").read_text()


FRAGILE = """\
import os
from nnunet_xmodal.trainers import nnUNetTrainerCSAD_1epochs_1its


class nnUNetTrainerFragile(nnUNetTrainerCSAD_1epochs_1its):
    def on_train_end(self):
        if self.fold == 1 and "FRAGILE" in os.environ:
            raise RuntimeError("this is where it breaks")
        super().on_train_end()
"""


def test_a_failing_fold_is_reported_the_others_finish_and_what_is_printed_mends_it(space, subjects, tmp_path):
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "fragile.py").write_text(FRAGILE)
    arguments = ("-tr", "nnUNetTrainerFragile", "-f", 0, 1, "--jobs", 2, "--group-by", subjects)
    ours = {"nnUNet_extTrainer": str(tmp_path / "trainers")}

    output = crossval(space, *arguments, fails=True, FRAGILE="1", **ours)
    assert "5 folds by subject" in output
    assert "nnUNetTrainerFragile__nnUNetPlans__2d, fold 1: failed (1)" in output
    assert "RuntimeError: this is where it breaks" in output  # the end of its log
    assert "1 of 2 trainings failed: nnUNetTrainerFragile__nnUNetPlans__2d, fold 1" in output
    files = [summary(space, "nnUNetTrainerFragile", "2d", fold) for fold in (0, 1)]
    assert [file.exists() for file in files] == [True, False]

    before = files[0].stat().st_mtime_ns
    printed = run_printed(space, *arguments, **ours)
    (command,) = [line for line in printed.splitlines() if not line.startswith("export ")]
    assert command.endswith("-device cpu --c")  # only what is left
    assert files[0].stat().st_mtime_ns == before
    assert files[1].exists()

    assert "2 of 2 trainings finished before" in crossval(space, *arguments, **ours)
    assert len(list(files[1].parents[1].glob("training_log_*.txt"))) == 2  # and nothing was started

    log = space.log(DATASET, "nnUNetTrainerFragile", "2d", 0)
    assert "Using splits from existing split file" in log and "has 4 training and 2 validation cases" in log
    for fold in json.loads((space.preprocessed / DATASET / "splits_final.json").read_text()):
        assert len({"phantom_tr000", "phantom_tr001"} & set(fold["val"])) in (0, 2)


def processes_with(marker: str) -> list[str]:
    """Command lines of all processes that have the marker in their environment; workers inherit it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:  # has just ended
            continue
    return found


def stop_at(space, epoch: int, number: int, *arguments) -> None:
    """Sends the scheduler a signal when a training has begun an epoch; 15 s later no process may be left."""
    trainer, marker = arguments[arguments.index("-tr") + 1], f"crossval-{uuid4().hex}"
    words = ("-d", 901, "-c", "2d", "-device", "cpu", *arguments)
    scheduler = space.start("nnUNetXModal_crossval", *words, spawn=True, MARKER=marker)
    deadline = monotonic() + 1200
    while epoch not in epochs_begun(space.log(DATASET, trainer, "2d")):
        assert scheduler.poll() is None, scheduler.output()
        assert monotonic() < deadline
        sleep(0.05)
    assert len(processes_with(marker)) > 2  # supervisor, training, loader workers
    scheduler.send_signal(number)
    deadline = monotonic() + 15
    scheduler.wait(15)
    while processes_with(marker):
        assert monotonic() < deadline, processes_with(marker)
        sleep(0.1)


def test_ctrl_c_and_sigkill_leave_no_process_and_the_same_command_goes_on(space):
    trainer = "nnUNetTrainerCSAD_8epochs_1its"
    arguments = ("-tr", trainer, "-f", 0)
    stop_at(space, 1, signal.SIGINT, *arguments)
    stop_at(space, 2, signal.SIGKILL, *arguments)
    begun = epochs_begun(space.log(DATASET, trainer, "2d"))
    assert begun[0] == 0 and begun.count(0) == 1 and begun[-1] >= 2  # each start went on from a checkpoint

    fold = space.model(DATASET, trainer, "2d") / "fold_0"
    latest = fold / "checkpoint_latest.pth"
    latest.write_bytes(latest.read_bytes()[:-1000])
    output = crossval(space, *arguments)
    assert "continuing from its last readable checkpoint" in output
    assert (fold / "checkpoint_latest.pth.unreadable").is_file() and summary(space, trainer, "2d", 0).is_file()
    assert epochs_begun(space.log(DATASET, trainer, "2d"))[-1] == 7
    assert not list(fold.glob(".tmp*"))


def test_a_cascade_in_one_command(space):
    stages = ("3d_cascade_fullres", "3d_lowres")
    cases = sorted(file.name.split(".")[0] for file in (space.preprocessed / DATASET / "gt_segmentations").iterdir())
    # two cases are enough to see that stage follows stage; each is predicted for the second one by the other's model
    split = [{"train": cases[:1], "val": cases[1:2]}, {"train": cases[1:2], "val": cases[:1]}]
    (space.preprocessed / DATASET / "splits_final.json").write_text(json.dumps(split))
    cut_off = space.model(DATASET, STOCK, "3d_lowres") / "fold_0" / "checkpoint_latest.pth"
    cut_off.parent.mkdir(parents=True)
    cut_off.write_bytes(b"half of a checkpoint")
    output = crossval(space, "-tr", STOCK, "-f", 0, 1, "--jobs", 2, configurations=stages)
    assert f"{STOCK}__nnUNetPlans__3d_lowres, fold 0: training" in output  # anew: nothing else was readable
    assert cut_off.with_name("checkpoint_latest.pth.unreadable").is_file()
    assert all(summary(space, STOCK, configuration, fold).is_file() for configuration in stages for fold in (0, 1))
    for fold in (0, 1):
        assert output.index(f"3d_lowres, fold {fold}: done") < output.index("3d_cascade_fullres, fold 0: training")
