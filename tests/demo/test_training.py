"""What the demo expects of trainings that are left, and how its processes end."""

import os
import zipfile
from pathlib import Path

import pytest

from nnunet_xmodal.demo.settings import Demo
from nnunet_xmodal.demo.training import Job, Trained, _estimate, _readable_checkpoints, processes_of


def test_a_trainer_without_a_time_counts_like_the_slowest():
    finished = [Trained(Job(fold, "A"), seconds, 0.5) for fold, seconds in enumerate((10.0, 20.0))]
    finished.append(Trained(Job(0, "B"), 30.0, 0.5))
    assert _estimate(["A", "B", "C"], finished) == 15 + 30 + 30
    assert _estimate([], finished) == 0


@pytest.mark.parametrize(
    ("checkpoints", "verb"),
    [((), "training"), (("checkpoint_latest.pth",), "continuing"), (("checkpoint_final.pth",), "validating")],
)
def test_a_job_says_what_is_left_of_it(checkpoints, verb):
    assert str(Job(3, "nnUNetTrainer", checkpoints)) == f"{verb} nnUNetTrainer, fold 3"


def test_a_gpu_trains_one_model_at_a_time_unless_told_otherwise(tmp_path):
    assert processes_of(Demo(tmp_path), "cuda") == 1
    assert processes_of(Demo(tmp_path, processes=3), "cuda") == 3


def test_a_checkpoint_that_was_cut_is_set_aside_and_not_deleted(tmp_path):
    with zipfile.ZipFile(tmp_path / "checkpoint_best.pth", "w") as archive:
        archive.writestr("archive/data.pkl", os.urandom(1000))
    content = (tmp_path / "checkpoint_best.pth").read_bytes()
    (tmp_path / "checkpoint_latest.pth").write_bytes(content[:600])
    assert _readable_checkpoints(tmp_path) == ("checkpoint_best.pth",)
    assert (tmp_path / "checkpoint_latest.pth.unreadable").read_bytes() == content[:600]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "checkpoint_best.pth",
        "checkpoint_latest.pth.unreadable",
    ]


def test_a_checkpoint_that_may_not_be_read_stays(tmp_path, monkeypatch):
    (tmp_path / "checkpoint_latest.pth").write_bytes(b"secret")

    def refuse(*_, **__):
        raise PermissionError("Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):
        _readable_checkpoints(tmp_path)
    assert (tmp_path / "checkpoint_latest.pth").is_file()
