"""What is on disk decides how a job begins; what is cut off counts as absent, and nothing is deleted."""

import zipfile

import numpy as np
import pytest
import torch

from nnunet_xmodal.crossval.checkpoints import is_intact, set_aside_unreadable, unreadable_checkpoints
from nnunet_xmodal.crossval.job_start import JobStart, has_results, set_aside_outdated_results, start_of


@pytest.mark.parametrize(
    "checkpoints, start",
    [
        ({}, JobStart.NEW),
        ({"latest": False, "best": False}, JobStart.NEW),
        ({"latest": True}, JobStart.CONTINUE),
        ({"best": True}, JobStart.CONTINUE),
        ({"latest": False, "best": True}, JobStart.CONTINUE),
        ({"final": False, "best": True}, JobStart.CONTINUE),
        ({"final": True, "best": False}, JobStart.VALIDATE),
    ],
)
def test_without_results(checkpoints, start, make_job, write_checkpoint):
    job = make_job()
    for name, intact in checkpoints.items():
        write_checkpoint(job, name, intact)
    assert start_of(job) is start


def test_finished_is_a_final_checkpoint_with_a_summary(make_job, write_checkpoint, write_summary):
    job = make_job()
    summary = write_summary(job)
    assert start_of(job) is JobStart.NEW
    write_checkpoint(job, "final")
    assert start_of(job) is JobStart.FINISHED
    summary.write_text(summary.read_text()[:-5])
    assert start_of(job) is JobStart.VALIDATE


def test_results_with_probabilities_are_those_of_all_cases(make_job, write_summary):
    job = make_job(flags=("--npz",))
    summary = write_summary(job, {"foreground_mean": {"Dice": 0.5}, "metric_per_case": [{}, {}]})
    for case in ("a", "b"):
        assert not has_results(job)
        np.savez(summary.with_name(f"{case}.npz"), probabilities=np.zeros(1))
    assert has_results(job)


def test_unreadable_checkpoints_make_way_for_the_next_older_one(make_job, write_checkpoint):
    job = make_job()
    latest, best = write_checkpoint(job, "latest", intact=False), write_checkpoint(job, "best")
    content = latest.read_bytes()
    assert unreadable_checkpoints(job) == [latest]
    (aside,) = set_aside_unreadable(job)
    assert aside.name == "checkpoint_latest.pth.unreadable" and aside.read_bytes() == content
    assert best.is_file() and not latest.exists()
    assert start_of(job) is JobStart.CONTINUE and not set_aside_unreadable(job)


def test_what_is_older_than_an_intact_checkpoint_stays(make_job, write_checkpoint):
    job = make_job()
    write_checkpoint(job, "latest")
    best = write_checkpoint(job, "best", intact=False)
    assert not set_aside_unreadable(job) and best.is_file()


def test_the_summary_of_an_older_training_is_no_result_of_the_new_one(make_job, write_checkpoint, write_summary):
    job = make_job()
    assert set_aside_outdated_results(job) is None
    summary = write_summary(job)
    assert set_aside_outdated_results(job) == summary.with_name("summary.json.outdated")
    write_checkpoint(job, "final")
    assert start_of(job) is JobStart.VALIDATE


def test_real_checkpoints_cut_off_or_overwritten_anywhere(tmp_path):
    file = tmp_path / "checkpoint.pth"
    torch.save({"network_weights": {"a": torch.randn(50, 50)}, "current_epoch": 3}, file)
    content = file.read_bytes()
    assert is_intact(file) and is_intact(file, thorough=True)
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        assert not is_intact(file), length
    file.write_bytes(content[:5000] + bytes(2000) + content[7000:])
    assert is_intact(file) and not is_intact(file, thorough=True)


def test_no_damage_raises_anything_but_is_told(tmp_path):
    file = tmp_path / "checkpoint.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("data.pkl", "version", "data/0"):
            archive.writestr(f"archive/{name}", b"0123456789" * 20)
    content, random = bytearray(file.read_bytes()), np.random.default_rng(0)
    for _ in range(500):
        damaged = content.copy()
        for where in random.integers(len(content), size=4):
            damaged[where] = random.integers(256)
        file.write_bytes(damaged)
        assert is_intact(file, thorough=True) in (True, False)


def test_nothing_but_a_zip_is_a_checkpoint(tmp_path):
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "text.pth").write_text("half of a checkpoint")
    for name in ("folder.pth", "text.pth", "absent.pth"):
        assert not is_intact(tmp_path / name)


def test_a_start_adds_one_flag_or_none():
    """Python 3.11.2, Debian 12's, makes another value of an enumeration's empty tuple."""
    assert [start.flags for start in JobStart] == [(), ("--c",), ("--val",), ()]
    assert all(start.value is None or isinstance(start.value, str) for start in JobStart)
