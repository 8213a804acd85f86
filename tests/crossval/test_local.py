"""Scheduling, with trainings that take moments: what runs at once, what waits, what survives a failure, what stops."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic, sleep

import pytest
from fast_ones import one_fast_in

from nnunet_xmodal.crossval.live_table import LiveTable
from nnunet_xmodal.crossval.local import NOT_STARTED, run_locally
from nnunet_xmodal.crossval.share_of_cores import VARIABLE, on_share, share_of
from nnunet_xmodal.crossval.supervised import RUNS_ELSEWHERE
from nnunet_xmodal.files.temporary import _HOST

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in for nnUNetv2_train is a script that forks")
in_proc = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")

SCHEDULER = """\
import sys
from pathlib import Path
from nnunet_xmodal.crossval import local
from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.live_table import LiveTable

supervisor, results, *folds = sys.argv[1:]
local._SUPERVISOR, local._POLL = (sys.executable, supervisor), 0.02
jobs = [Job(results, "Dataset999_Tiny", "2d", "nnUNetTrainer", "nnUNetPlans", int(fold)) for fold in folds]
print(sorted(local.run_locally([jobs], [None, None], LiveTable(jobs)).values()), flush=True)
"""


@pytest.fixture
def run(fake_training, capsys):
    """`(*waves, slots)` → exit statuses, what was printed."""

    def run(*waves, slots=(None,)):
        statuses = run_locally(waves, slots, LiveTable([job for wave in waves for job in wave]))
        return statuses, capsys.readouterr().out

    return run


def listen_to_ctrl_c() -> None:
    """Tests that run in the background of a shell are started with SIGINT ignored, and so is what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def scheduler(fake_training):
    """`(*folds)` → a scheduler in a process of its own; no process of its trainings is left behind after the test."""
    started = []

    def start(*folds) -> subprocess.Popen:
        folder = fake_training.folder
        command = [sys.executable, "-c", SCHEDULER, folder / "supervisor.py", folder / "results", *folds]
        started.append(
            subprocess.Popen(
                list(map(str, command)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
                preexec_fn=listen_to_ctrl_c,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()
    for process in fake_training.alive():
        os.kill(process, signal.SIGKILL)


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def wait_until(condition, seconds: float = 60) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "the condition did not come true"
        sleep(0.02)


@pytest.mark.slow
def test_as_many_at_once_as_slots_each_with_its_own_gpu(run, fake_training, make_job):
    fake_training.behave(epoch=1.5)  # longer than a process takes to begin on a busy machine
    jobs = [make_job(fold) for fold in range(4)]
    statuses, _ = run(jobs, slots=["0", "3,4"])
    assert statuses == dict.fromkeys(jobs, 0)
    assert fake_training.most_at_once() == 2
    on = {"0": [], "3,4": []}
    for event in sorted(fake_training.events, key=lambda event: event["time"]):
        on[event["gpu"]].append(event["what"])
    assert all(whats == ["begins", "trains", "ends"] * (len(whats) // 3) for whats in on.values())


@pytest.mark.slow
@pytest.mark.parametrize("slots", [[None], [None] * 2, [None] * 3, ["0", "1"]])
def test_trainings_at_once_without_a_gpu_share_the_cores(run, fake_training, make_job, slots):
    run([make_job(fold) for fold in range(len(slots))], slots=slots)
    shared = len(slots) > 1 and None in slots
    assert {event["cores"] for event in fake_training.events} == {share_of(len(slots)) if shared else os.cpu_count()}
    assert {event["what"] for event in fake_training.events} == {"begins", "trains", "ends"}


@pytest.mark.slow
def test_a_training_that_is_left_alone_has_all_cores(run, fake_training, make_job):
    run([make_job(0)], slots=[None] * 2)
    assert {event["cores"] for event in fake_training.events} == {os.cpu_count()}


def test_shares_are_whole_cores_and_one_at_least(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [share_of(trainings) for trainings in (1, 2, 3, 9)] == [8, 4, 2, 1]


def test_what_is_no_script_of_python_is_run_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "2")
    script = tmp_path / "nnUNetv2_train"
    of_a_path_with_blanks = "#!/bin/sh\n'''exec' '/my tools/bin/python3' '$0' '$@'\n' '''"
    for head, wrapped in (
        ("#!/bin/sh\necho", False),
        ("#!/usr/bin/python3\nimport sys", True),
        (of_a_path_with_blanks, True),
    ):
        script.write_text(f"{head}\n")
        command = on_share([str(script), "501"])
        assert command[-2:] == [str(script), "501"] and (len(command) > 2) is wrapped
    monkeypatch.delenv(VARIABLE)
    assert on_share([str(script)]) == [str(script)]


@pytest.mark.slow
def test_the_first_fold_of_a_model_is_alone_until_its_first_epoch(run, fake_training, make_job):
    fake_training.behave(start=0.4, epoch=0.8)
    run([make_job(fold) for fold in range(3)], slots=[None] * 3)
    (_, second, third), trains = fake_training.times("begins"), fake_training.times("trains")
    assert trains[0] < second and third < trains[1]
    assert fake_training.most_at_once() >= 2


def test_what_is_finished_is_skipped(run, fake_training, make_job):
    jobs = [make_job(0), make_job(1)]
    run(jobs[:1])
    statuses, output = run(jobs)
    assert statuses == dict.fromkeys(jobs, 0)
    assert [event["fold"] for event in fake_training.events if event["what"] == "begins"] == ["0", "1"]
    assert "1 of 2 trainings finished before" in output


def test_a_failing_job_is_shown_with_the_end_of_its_log_and_the_others_go_on(run, fake_training, make_job):
    fake_training.behave(fails=("nnUNetTrainer 2d 1",))
    jobs = [make_job(fold) for fold in range(3)]
    statuses, output = run(jobs)
    assert list(statuses.values()) == [0, 3, 0]
    assert f"the end of {jobs[1].log}:" in output and "no weights would do" in output
    assert output.count("no weights would do") == 1 and "fold 2: done, Dice 0.500" in output


def test_what_failed_goes_on_from_its_checkpoint_when_asked_again(run, fake_training, make_job):
    fake_training.behave(fails=("nnUNetTrainer 2d 0",))
    run([make_job(flags=("-pretrained_weights", "weights.pth"))])
    fake_training.behave()
    statuses, output = run([make_job(flags=("-pretrained_weights", "weights.pth"))])
    assert list(statuses.values()) == [0] and "continuing from its last readable checkpoint" in output
    flags = [event["flags"][4:] for event in fake_training.events if event["what"] == "begins"]
    assert flags == [["-pretrained_weights", "weights.pth"], ["--c"]]


def test_a_stage_follows_the_one_that_it_reads_and_that_one_only(run, fake_training, make_job):
    fake_training.behave(epoch=0.2, fails=("B 3d_lowres 1", "A 2d 0"))
    first = [make_job(fold, trainer=trainer, configuration="3d_lowres") for fold in (0, 1) for trainer in "AB"]
    unrelated = make_job(0, trainer="A")
    second = [
        make_job(fold, trainer=trainer, configuration="3d_cascade_fullres", previous="3d_lowres")
        for fold in (0, 1)
        for trainer in "AB"
    ]
    statuses, output = run([*first, unrelated], second, slots=[None] * 3)
    assert [statuses[job] for job in second] == [0, NOT_STARTED, 0, NOT_STARTED]
    assert "B__nnUNetPlans__3d_cascade_fullres, fold 0: not started: 3d_lowres is not finished" in output
    ends = max(e["time"] for e in fake_training.events if e["configuration"] == "3d_lowres")
    assert all(e["time"] > ends for e in fake_training.events if e["configuration"] == "3d_cascade_fullres")


@in_proc
def test_no_loader_worker_outlives_its_training(run, fake_training, make_job):
    fake_training.behave(fails=("nnUNetTrainer 2d 1",))
    run([make_job(0), make_job(1)])
    assert len(fake_training.times("begins")) == 2 and not fake_training.alive()


def test_temporary_folders_of_ended_trainings_are_swept(run, fake_training, make_job, monkeypatch, tmp_path):
    ended = subprocess.Popen([sys.executable, "-SE", "-c", ""])
    ended.wait()
    left = tmp_path / "temporary" / f".tmp_{_HOST}.{ended.pid}.sockets"
    left.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(left.parent))
    run([make_job(0)])
    assert not left.exists()


def test_a_folder_that_cannot_be_made_is_named(run, fake_training, make_job):
    jobs = [make_job(0), make_job(1)]
    jobs[0].model_folder.mkdir(parents=True)
    jobs[0].folder.write_text("a file where the folder should be")
    statuses, output = run(jobs)
    assert list(statuses.values()) == [1, 0]
    assert f"FileExistsError: [Errno 17] File exists: '{jobs[0].folder}'" in output


def test_an_unreadable_checkpoint_is_set_aside(run, fake_training, make_job, write_checkpoint):
    job = make_job()
    write_checkpoint(job, "latest", intact=False), write_checkpoint(job, "best")
    statuses, _ = run([job])
    assert list(statuses.values()) == [0] and fake_training.events[0]["flags"][-1] == "--c"
    assert "checkpoint_latest.pth.unreadable: not readable, set aside" in job.log.read_text()


@in_proc
@pytest.mark.parametrize("name, status", one_fast_in(3, [("SIGKILL", -9), ("SIGTERM", 143), ("SIGINT", -2)]))
def test_a_scheduler_that_ends_takes_its_trainings_along(name, status, scheduler, fake_training):
    fake_training.behave(epoch=20)
    process = scheduler(0, 1)
    wait_until(lambda: len(fake_training.times("trains")) == 2)
    assert len(fake_training.alive()) == 4  # with a loader worker each
    process.send_signal(getattr(signal, name))
    wait_until(lambda: not fake_training.alive())
    process.wait(15)
    assert process.returncode == status
    fake_training.behave()
    assert scheduler(0, 1).communicate(timeout=60)[0].endswith("[0, 0]\n")
    begun = [event["flags"][-1] for event in fake_training.events if event["what"] == "begins"]
    assert begun[2:] == ["--c", "--c"]


@in_proc
def test_ctrl_c_twice_changes_nothing(scheduler, fake_training):
    fake_training.behave(epoch=20)
    process = scheduler(0)
    wait_until(lambda: fake_training.events)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: process.poll() is not None and not fake_training.alive())


@in_proc
def test_a_supervisor_that_is_killed_leaves_no_training(run, fake_training, make_job):
    fake_training.behave(epoch=20)

    def kill_supervisor() -> None:
        wait_until(lambda: fake_training.events and "process group" in make_job().log.read_text())
        os.kill(parent_of(fake_training.events[0]["pid"]), signal.SIGKILL)

    thread = threading.Thread(target=kill_supervisor)
    thread.start()
    statuses, output = run([make_job()])
    thread.join()
    assert list(statuses.values()) == [-9] and "fold 0: failed (SIGKILL)" in output
    wait_until(lambda: not fake_training.alive())


def test_a_training_that_is_killed_says_by_what(run, fake_training, make_job):
    fake_training.behave(epoch=20)

    def kill_training() -> None:
        wait_until(lambda: fake_training.events)
        os.kill(fake_training.events[0]["pid"], signal.SIGKILL)

    thread = threading.Thread(target=kill_training)
    thread.start()
    statuses, output = run([make_job()])
    thread.join()
    assert list(statuses.values()) == [137] and "fold 0: failed (SIGKILL)" in output


@in_proc
def test_two_schedulers_share_the_folds_and_neither_trains_one_twice(run, scheduler, fake_training, make_job):
    fake_training.behave(epoch=20)
    other = scheduler(0)
    wait_until(lambda: fake_training.times("trains"))
    fake_training.behave()
    statuses, output = run([make_job(0), make_job(1)])
    assert list(statuses.values()) == [RUNS_ELSEWHERE, 0]
    assert "fold 0: runs elsewhere" in output and "is being trained by process" in output
    assert f"process group {fake_training.events[0]['pid']} on " in make_job(0).log.read_text()
    other.kill()
    wait_until(lambda: not fake_training.alive())
    assert list(run([make_job(0), make_job(1)])[0].values()) == [0, 0]


@in_proc
def test_a_training_that_lost_scheduler_and_supervisor_keeps_its_fold(run, scheduler, fake_training, make_job):
    fake_training.behave(epoch=20)
    process = scheduler(0)
    wait_until(lambda: fake_training.times("trains"))
    training = fake_training.events[0]["pid"]
    supervisor = parent_of(training)
    process.send_signal(signal.SIGSTOP)  # so that it cannot tidy up
    os.kill(supervisor, signal.SIGKILL)
    process.kill()
    assert list(run([make_job(0)])[0].values()) == [RUNS_ELSEWHERE]
    os.killpg(training, signal.SIGKILL)
    fake_training.behave()
    assert list(run([make_job(0)])[0].values()) == [0]


def test_a_terminal_without_colours_gets_lines(run, fake_training, make_job, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, output = run([make_job()])
    assert "\x1b" not in output and len(output.splitlines()) == 3
