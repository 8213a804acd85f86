"""What is seen while trainings run, on a terminal and in a file."""

import os
import struct
import subprocess
import sys
from datetime import datetime
from io import StringIO

import pytest
from rich.console import Console

from nnunet_xmodal.crossval.live_table import LiveTable, clock, describe, epochs_of, log_tail
from nnunet_xmodal.crossval.supervised import RUNS_ELSEWHERE
from nnunet_xmodal.files.training_log import Epoch, TrainingLog

NAN = float("nan")


@pytest.mark.parametrize(
    "log, n_epochs, words",
    [
        (TrainingLog(), 10, "starting"),
        (TrainingLog([Epoch(0)]), None, "epoch 1"),
        (TrainingLog([Epoch(0)]), 10, "epoch 1/10"),
        (
            TrainingLog([Epoch(0, -0.2, -0.1, (0.5, NAN), 60.0), Epoch(1)]),
            10,
            "epoch 2/10, loss -0.20, Dice 0.50, 9:00 left",
        ),
        (TrainingLog([Epoch(0, -0.2, -0.1, (NAN,), 60.0), Epoch(1)]), None, "epoch 2, loss -0.20"),
        (TrainingLog([Epoch(9, None, None, (), 60.0)], {"a": datetime.now()}), 10, "validating, case 1"),
    ],
)
def test_a_running_training_in_a_few_words(log, n_epochs, words):
    assert describe(log, n_epochs) == words


def test_clock():
    assert [clock(seconds) for seconds in (0, 59.9, 60, 3599, 3600, 90061)] == [
        "0:00", "0:59", "1:00", "59:59", "1:00:00", "25:01:01"
    ]  # fmt: skip


def test_the_length_of_a_training_is_in_its_debug_file(make_job):
    job = make_job()
    job.folder.mkdir(parents=True)
    assert epochs_of(job) is None
    for content, n_epochs in (('{"num_epochs": "250"}', 250), ('{"num_ep', None), ("{}", None)):
        (job.folder / "debug.json").write_text(content)
        assert epochs_of(job) == n_epochs


def test_the_end_of_a_log_of_any_size_and_encoding(make_job):
    job = make_job()
    assert log_tail(job) == "(nothing was printed)"
    job.folder.mkdir(parents=True)
    with open(job.log, "wb") as file:
        file.seek(10**9)  # a sparse file
        file.write(b"\nthe third but last\n\xff\xfe\n50%|\xe2\x96\x88    |\r100%|\xe2\x96\x88\xe2\x96\x88|\n\n")
    assert log_tail(job, lines=3) == "\ufffd\ufffd\n50%|█    |\n100%|██|"
    assert len(log_tail(job)) < 100_000
    job.log.write_text("")
    assert log_tail(job) == ""


def rows(table, width: int = 100) -> list[list[str]]:
    console = Console(file=StringIO(), width=width)
    console.print(table)
    cells = [line.split("│")[1:-1] for line in console.file.getvalue().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line] for line in cells]


def test_rows_are_models_and_columns_folds(make_job):
    jobs = [make_job(fold, trainer=trainer) for trainer in ("A", "B") for fold in (0, "all")][:3]
    table = LiveTable(jobs).table()
    assert [column.header for column in table.columns] == ["trainer", "fold 0", "fold all"]
    assert str(table.title) == "Dataset999_Tiny, nnUNetPlans, 2d"
    assert rows(table) == [["A", "waiting", "waiting"], ["B", "waiting", ""]]


def test_rows_say_in_what_models_differ_and_never_cut_a_name(make_job):
    names = [f"nnUNetTrainer{'Same' * 8}{end}" for end in ("A", "B")]
    jobs = [make_job(0, trainer=name, configuration=c) for name in names for c in ("2d", "3d_lowres")]
    table = LiveTable(jobs).table()
    assert str(table.title) == "Dataset999_Tiny, nnUNetPlans"
    shown = "".join(row[0] for row in rows(table, width=30))
    assert shown == "".join(name + c for name in names for c in ("2d", "3d_lowres"))


def test_without_a_terminal_there_is_a_line_per_event(make_job, write_checkpoint, write_summary):
    jobs = [make_job(fold, trainer="[red]A") for fold in range(5)]
    write_checkpoint(jobs[1], "latest")
    console = Console(file=StringIO(), width=40)
    with LiveTable(jobs, console) as table:
        for job in jobs[:4]:
            table.started(job)
            table.refresh()
        write_checkpoint(jobs[0], "final")
        write_summary(jobs[0])
        for job, status in zip(jobs, (0, 143, RUNS_ELSEWHERE, 1)):
            table.ended(job, status, "PermissionError: no" if status == 1 else "")
        table.skipped(jobs[4])
    name = "[red]A__nnUNetPlans__2d, fold"
    assert console.file.getvalue().splitlines() == [
        "0 of 5 trainings finished before",
        f"{name} 0: training",
        f"{name} 1: continuing from its last readable checkpoint",
        f"{name} 2: training",
        f"{name} 3: training",
        f"{name} 0: done, Dice 0.500",
        f"{name} 1: failed (SIGTERM)",
        f"the end of {jobs[1].log}:",
        "(nothing was printed)",
        f"{name} 2: runs elsewhere",
        f"{name} 2 is being trained by another scheduler: wait until that has ended.",
        f"{name} 3: failed (1)",
        f"{name} 3: PermissionError: no",
        f"{name} 4: not started: None is not finished",
    ]


ON_A_TERMINAL = """\
import sys
from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.live_table import LiveTable
jobs = [Job(sys.argv[1], "Dataset999_Tiny", "2d", "nnUNetTrainer", "nnUNetPlans", fold) for fold in range(2)]
jobs[0].folder.mkdir(parents=True)
jobs[0].log.write_text("a bar: \\u2588", encoding="utf-8")
with LiveTable(jobs) as table:
    table.started(jobs[0])
    for epoch in range(3):
        with open(jobs[0].folder / "training_log_2025_1_1_00_00_00.txt", "a") as log:
            print(f"2025-01-01 00:00:0{epoch}: Epoch {epoch}", file=log)
        table.refresh()
    table.ended(jobs[0], 1)
"""


def shown(folder, columns: int, **environment: str) -> str:
    """What a terminal gets to see."""
    fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))  # not on Windows
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {**os.environ, "TERM": "xterm", **environment}
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, str(folder)],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env=variables,
        cwd=folder,
    )
    os.close(theirs)
    output = b""
    try:
        while chunk := os.read(ours, 10_000):
            output += chunk
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0, output.decode(errors="replace")
    return output.decode(errors="replace")


def test_on_a_terminal_the_table_is_drawn_in_place(tmp_path):
    text = shown(tmp_path, columns=100)
    assert "epoch 1" in text and "epoch 3" in text and "failed (1)" in text and "a bar: █" in text
    assert "\x1b[1A\x1b[2K" in text  # a line up, and over it
    assert text.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_on_a_terminal_without_utf8(tmp_path):
    text = shown(tmp_path, columns=100, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert "a bar: ?" in text and "failed (1)" in text


def test_on_a_terminal_that_cannot_move_its_cursor(tmp_path):
    text = shown(tmp_path, columns=100, TERM="dumb")
    assert "\x1b" not in text and "fold 0: training" in text and "fold 0: failed (1)" in text
