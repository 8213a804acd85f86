"""Stock training is never started on a stranger's checkpoint, weights or plans."""

import json
import os

import pytest
import torch

from nnunet_xmodal.commands.crossval import parser
from nnunet_xmodal.crossval.run import crossval
from nnunet_xmodal.crossval.trusted_jobs import check_trusted
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trust import VARIABLE

DATASET = "Dataset999_Tiny"


class Command:
    """What a pickle runs when it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch '{self.file}'",)


@pytest.fixture(autouse=True)
def _nobody_is_trusted(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def hostile(tmp_path):
    """`(file)` → a checkpoint that touches `touched`."""

    def write(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"network_weights": {}, "x": Command(tmp_path / "touched")}, file)
        return file

    return write


@pytest.mark.parametrize("name", ["final", "latest", "best"])
def test_a_job_goes_on_from_no_strangers_checkpoint(make_job, hostile, tmp_path, name, monkeypatch):
    job = make_job()
    file = hostile(job.folder / f"checkpoint_{name}.pth")
    with pytest.raises(XModalError, match="system, which no checkpoint"):
        check_trusted([make_job(1), job])
    assert file.is_file() and not (tmp_path / "touched").exists()
    monkeypatch.setenv(VARIABLE, "1")
    check_trusted([job])


def test_a_best_checkpoint_beside_a_good_one_counts(make_job, hostile):
    """--val_best reads it."""
    job = make_job()
    job.folder.mkdir(parents=True)
    torch.save({}, job.folder / "checkpoint_latest.pth")
    check_trusted([job])
    hostile(job.folder / "checkpoint_best.pth")
    with pytest.raises(XModalError, match="checkpoint_best.pth holds"):
        check_trusted([job])


def test_finished_jobs_and_cut_checkpoints_load_nothing(make_job, hostile, write_summary, write_checkpoint):
    finished, cut = make_job(0), make_job(1)
    hostile(finished.folder / "checkpoint_final.pth"), write_summary(finished)
    write_checkpoint(cut, "latest", intact=False)
    check_trusted([finished, cut])


def test_pretrained_weights_of_every_fold(make_job, hostile, tmp_path):
    torch.save({}, tmp_path / "0.pth")
    hostile(tmp_path / "1.pth")
    jobs = [make_job(fold, flags=("-pretrained_weights", str(tmp_path / "{fold}.pth"))) for fold in (0, 1)]
    check_trusted(jobs[:1])
    with pytest.raises(XModalError, match="1.pth holds"):
        check_trusted(jobs)


@pytest.fixture
def preprocessed(nnunet_folders, make_plans, make_dataset_json):
    folder = nnunet_folders / "nnUNet_preprocessed" / DATASET
    for name in ("gt_segmentations", "nnUNetPlans_2d"):
        (folder / name).mkdir(parents=True)
    for case in "abcdef":
        (folder / "gt_segmentations" / f"{case}.nii.gz").touch()
        (folder / "nnUNetPlans_2d" / f"{case}.b2nd").touch()
    (folder / "nnUNetPlans.json").write_text(json.dumps(make_plans(2)))
    (folder / "dataset.json").write_text(json.dumps(make_dataset_json()))
    return folder


def run(*words):
    arguments = ["-d", DATASET, "-c", "2d", "--executor", "print", "-device", "cpu", "-f", "0", *map(str, words)]
    return crossval(parser().parse_args(arguments))


def test_the_command_looks_before_it_writes(preprocessed, nnunet_folders, hostile, capsys):
    model = nnunet_folders / "nnUNet_results" / DATASET / "nnUNetTrainer__nnUNetPlans__2d"
    hostile(model / "fold_0" / "checkpoint_latest.pth")
    with pytest.raises(XModalError, match="--trust"):
        run()
    assert not (preprocessed / "splits_final.json").exists() and capsys.readouterr().out == ""
    assert run("--trust") == 0
    assert f"{VARIABLE}=1" in capsys.readouterr().out and VARIABLE not in os.environ


def test_weights_are_looked_at(preprocessed, hostile, tmp_path):
    with pytest.raises(XModalError, match="w.pth holds"):
        run("-pretrained_weights", hostile(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", ["", '{"configurations', "[]"])
def test_plans_that_are_cut(preprocessed, content):
    (preprocessed / "nnUNetPlans.json").write_text(content)
    with pytest.raises(XModalError, match="nnUNetPlans.json (cannot be read in full|holds no plans)"):
        run()


def test_strangers_plans(preprocessed):
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    plans["configurations"]["2d"]["architecture"]["network_class_name"] = "os.system"
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    with pytest.raises(XModalError, match="network_class_name in .*--trust"):
        run()
    assert run("--trust") == 0


def test_results_that_are_a_file(preprocessed, nnunet_folders):
    (nnunet_folders / "nnUNet_results").rmdir()
    (nnunet_folders / "nnUNet_results").write_text("mine")
    with pytest.raises(XModalError, match="nnUNet_results is a file, but a folder is written"):
        run()
