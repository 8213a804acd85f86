"""`nnUNetXModal_demo` as a user runs it: everything is left behind, a second call skips, a stopped one stops.

What it says to mistakes is in tests/commands/test_demo.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SHORT = ("--device", "cpu", "--epochs", "1", "--iterations", "1", "--folds", "2", "--cases", "1", "--phantoms", "5")
TINY = ("--features", "2", "--batch_size", "2")
TRAINERS = ("nnUNetTrainer", "nnUNetTrainerAnyStreams")
MODEL = "{}_1epochs_1its__nnUNetPlans__2d_b2_f2"


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """The installed command, without the variables of nnU-Net that a developer may have set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    command = Path(sys.executable).with_name("nnUNetXModal_demo")
    words = [str(command), "--folder", str(folder), *SHORT, *TINY, *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    running = start(folder, *arguments)
    stdout, stderr = running.communicate(timeout=1200)
    return subprocess.CompletedProcess(running.args, running.returncode, stdout, stderr)


def fold_folder(folder: Path, trainer: str, fold: int) -> Path:
    return folder / "nnUNet_results" / "Dataset950_ProstatePhantom" / MODEL.format(trainer) / f"fold_{fold}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "here"
    return folder, demo(folder, "--processes", "1")


def test_leaves_models_predictions_table_and_figure(finished):
    folder, result = finished
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    for trainer in TRAINERS:
        for fold in range(2):
            assert (fold_folder(folder, trainer, fold) / "checkpoint_final.pth").is_file()
            summary = json.loads((fold_folder(folder, trainer, fold) / "validation" / "summary.json").read_text())
            assert len(summary["metric_per_case"]) == 1
        for condition in ("complete", "without_T2W", "without_ADC"):
            predictions = folder / "predictions" / condition / MODEL.format(trainer)
            assert (predictions / "prostate_ts000.nii.gz").is_file()
    # the model with stream dropout was given one stream, and the other one zeros
    missing = folder / "predictions" / "without_ADC" / MODEL.format(TRAINERS[1]) / "missing.json"
    assert json.loads(missing.read_text())["prostate_ts000"]["absent_streams"] == [["ADC"]]
    table = (folder / "results.md").read_text(encoding="utf-8")
    for row in ("| complete (1)", "| without T2W (1)", "| without ADC (1)", "| validation (2)"):
        assert row in table and row in result.stdout
    assert all(trainer in table for trainer in TRAINERS)
    assert all(metric in table for metric in ("Dice", "HD95", "lesion_F1", "±"))
    report = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert all(trainer in report for trainer in TRAINERS)
    assert (folder / "cases.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.rglob(".tmp_*"))
    # nnU-Net's chatter is in the log and nowhere else
    assert "Please cite" in (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    assert "Please cite" not in result.stdout


def test_second_run_skips_what_is_finished_and_goes_on_with_what_is_not_in_two_processes(finished):
    folder, _ = finished
    kept = fold_folder(folder, TRAINERS[0], 0) / "checkpoint_final.pth"
    before = kept.stat().st_mtime_ns
    # as if one training had been interrupted while a checkpoint was written, another while its validation was
    training, validation = (fold_folder(folder, TRAINERS[1], fold) for fold in range(2))
    (training / "checkpoint_final.pth").rename(training / "checkpoint_latest.pth")
    (training / "checkpoint_best.pth").write_bytes((training / "checkpoint_latest.pth").read_bytes()[:1000])
    (training / "validation" / "summary.json").unlink()
    summary = validation / "validation" / "summary.json"
    summary.write_text(summary.read_text()[:100])
    (folder / "results.md").unlink()
    result = demo(folder, "--processes", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert "planned and preprocessed before: skipped" in result.stdout
    assert "2 of 4 trainings were finished before: skipped" in result.stdout
    assert "training 2 models, 2 at once" in result.stdout
    assert f"continuing {TRAINERS[1]}, fold 0" in result.stdout
    assert f"validating {TRAINERS[1]}, fold 1" in result.stdout
    assert "Please cite" not in result.stdout
    assert (training / "checkpoint_final.pth").is_file()
    assert kept.stat().st_mtime_ns == before
    assert (folder / "results.md").is_file()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds child processes as Linux lists them")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_nothing_goes_on_training_when_it_is_stopped(finished, sent):
    folder, _ = finished
    iterations = str(100000 + sent)  # trainings of their own for each signal
    running = start(folder, "--processes", "2", "--iterations", iterations)
    try:
        log = folder / "nnUNet_results" / "Dataset950_ProstatePhantom" / MODEL.replace("1its", f"{iterations}its")
        logs = [Path(str(log).format(trainer)) / "fold_0" for trainer in TRAINERS]
        wait_until(lambda: all(list(fold.glob("training_log_*")) for fold in logs), seconds=120)
        children = children_of(running.pid)
        assert len(children) >= 2
        running.send_signal(sent)
        running.communicate(timeout=20)
        assert running.returncode not in (0, None)
        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), seconds=10)
    finally:
        running.kill()


def children_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)
