"""Local cross-validation by a supervisor that has nothing of what Windows lacks: no fcntl, no process groups.

The system is POSIX all the same, so that the job object, which ends loader workers, is left out.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from nnunet_xmodal.crossval import local, process_group
from nnunet_xmodal.crossval.live_table import LiveTable
from nnunet_xmodal.crossval.local import run_locally
from nnunet_xmodal.crossval.supervised import RUNS_ELSEWHERE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in for nnUNetv2_train is a script for POSIX")

HELPERS = Path(__file__).parents[1] / "helpers"

AS_ON_WINDOWS = f"""\
import sys
sys.path.insert(0, {str(HELPERS)!r})
import filelock
import windows
windows.take_away()
from nnunet_xmodal.crossval import process_group, supervised
process_group.os = windows.WindowsOs()
process_group._NEW_PROCESS_GROUP = 0  # POSIX knows no such flags
process_group.end_children_with_this_process = lambda: None
"""


@pytest.fixture
def run(fake_training, capsys, monkeypatch, on_windows):
    """`(*jobs)` → exit statuses, what was printed."""
    (fake_training.folder / "supervisor.py").write_text(
        AS_ON_WINDOWS + f"supervised.executable = lambda name: {str(fake_training.folder / 'nnUNetv2_train')!r}\n"
        "supervised.main()\n"
    )
    on_windows(process_group)
    monkeypatch.setattr(process_group, "_NEW_PROCESS_GROUP", 0)
    monkeypatch.delattr(local.signal, "SIGHUP")
    fake_training.behave(workers=False)

    def run(*jobs):
        statuses = run_locally([jobs], [None], LiveTable(jobs))
        return list(statuses.values()), capsys.readouterr().out

    return run


def test_folds_are_trained_and_their_failures_told(run, fake_training, make_job):
    fake_training.behave(fails=("nnUNetTrainer 2d 1",), workers=False)
    jobs = [make_job(fold) for fold in range(3)]
    statuses, output = run(*jobs)
    assert statuses == [0, 3, 0] and "no weights would do" in output
    left = [path.name for job in jobs for path in job.folder.iterdir() if path.name.startswith(".")]
    assert not left, "a lock outlived its training"


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_a_fold_that_another_scheduler_trains_is_left_alone(run, fake_training, make_job):
    fake_training.behave(epoch=20, workers=False)
    job = make_job(0)
    words = [*local._SUPERVISOR, json.dumps(job.as_dict())]
    other = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = monotonic() + 60
    while not fake_training.times("trains"):
        assert monotonic() < deadline and other.poll() is None
        sleep(0.02)
    statuses, output = run(job)
    assert statuses == [RUNS_ELSEWHERE] and "is being trained by process" in output
    other.stdin.close()  # as when its scheduler ends
    assert other.wait(20) == 128 + 15 and not fake_training.alive()
    fake_training.behave(workers=False)
    assert run(job)[0] == [0]
    assert [event["flags"][-1] for event in fake_training.events if event["what"] == "begins"][1:] == ["--c"]


def test_what_windows_lacks_is_taken_from_these_supervisors():
    script = (
        AS_ON_WINDOWS + "import os, signal\nprint(hasattr(os, 'killpg'), hasattr(signal, 'SIGKILL'))\nimport fcntl\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False False\n" and "ModuleNotFoundError" in done.stderr
