"""`nnUNetXModal_demo` as a user runs it: everything is left behind, a second call skips, mistakes get a sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = ("--device", "cpu", "--epochs", "1", "--iterations", "1", "--folds", "2", "--cases", "1")
TRAINERS = ("nnUNetTrainer", "nnUNetTrainerCSAD")


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The installed command, without the variables of nnU-Net that a developer may have set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    command = Path(sys.executable).with_name("nnUNetXModal_demo")
    words = [str(command), "--folder", str(folder), *arguments]
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=2400)


def fold_folder(folder: Path, trainer: str, fold: int) -> Path:
    model = f"{trainer}_1epochs_1its__nnUNetPlans__2d_b8"
    return folder / "nnUNet_results" / "Dataset950_Phantom" / model / f"fold_{fold}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "here"
    return folder, demo(folder, *SHORT)


@pytest.mark.slow
def test_leaves_models_predictions_table_and_figure(finished):
    folder, result = finished
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    for trainer in TRAINERS:
        for fold in range(2):
            assert (fold_folder(folder, trainer, fold) / "checkpoint_final.pth").is_file()
            summary = json.loads((fold_folder(folder, trainer, fold) / "validation" / "summary.json").read_text())
            assert len(summary["metric_per_case"]) == 4
        assert (
            folder / "predictions" / f"{trainer}_1epochs_1its__nnUNetPlans__2d_b8" / "phantom_ts000.nii.gz"
        ).is_file()
    table = (folder / "results.md").read_text(encoding="utf-8")
    assert all(f"| {trainer} " in table for trainer in TRAINERS)
    assert all(metric in table for metric in ("Dice", "HD95", "lesion_F1", "±"))
    assert "| nnUNetTrainerCSAD |" in result.stdout
    report = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert all(trainer in report for trainer in TRAINERS)
    assert (folder / "cases.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.rglob(".tmp_*"))
    # nnU-Net's chatter is in the log and nowhere else
    assert "Please cite" in (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    assert "Please cite" not in result.stdout


@pytest.mark.slow
def test_second_run_skips_what_is_finished_and_goes_on_with_what_is_not(finished):
    folder, _ = finished
    kept = fold_folder(folder, "nnUNetTrainer", 0) / "checkpoint_final.pth"
    before = kept.stat().st_mtime_ns
    # as if one training had been interrupted while a checkpoint was written, another while its validation was
    training, validation = (fold_folder(folder, "nnUNetTrainerCSAD", fold) for fold in range(2))
    (training / "checkpoint_final.pth").rename(training / "checkpoint_latest.pth")
    (training / "checkpoint_best.pth").write_bytes((training / "checkpoint_latest.pth").read_bytes()[:1000])
    (training / "validation" / "summary.json").unlink()
    summary = validation / "validation" / "summary.json"
    summary.write_text(summary.read_text()[:100])
    (folder / "results.md").unlink()
    result = demo(folder, *SHORT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "planned and preprocessed before: skipped" in result.stdout
    assert "2 of 4 trainings were finished before: skipped" in result.stdout
    assert "continuing nnUNetTrainerCSAD, fold 0 (1 of 2)" in result.stdout
    assert "validating nnUNetTrainerCSAD, fold 1 (2 of 2)" in result.stdout
    assert (training / "checkpoint_final.pth").is_file()
    assert kept.stat().st_mtime_ns == before
    assert (folder / "results.md").is_file()


@pytest.mark.slow
def test_mistakes_get_one_sentence(finished, tmp_path):
    folder, _ = finished
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.tex").touch()
    for where, arguments, sentence in (
        (folder, ("--seed", "1"), "holds a demo on phantoms of seed 0, but this one is to run on phantoms of seed 1"),
        (tmp_path / "used", (), "exists and is no folder of this demo: take another --folder"),
        (tmp_path / "new", ("--trainers", "nnUNetTrainerCSADD"), "names nnUNetTrainerCSADD, which is unknown"),
        (tmp_path / "new", ("--folds", "6"), "--folds is 6"),
        (tmp_path / "new", ("--dataset", str(tmp_path)), "holds no dataset.json"),
        (folder, ("--configuration", "4d"), "--configuration 4d is not in nnU-Net's plans"),
    ):
        result = demo(where, *arguments)
        assert result.returncode == 2
        assert sentence in result.stderr
        assert "Traceback" not in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "new").exists()
