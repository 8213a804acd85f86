"""A job is one stock call, and knows the folder that this call fills."""

import json
import shutil
import sys

import pytest

from nnunet_xmodal.crossval import job as module
from nnunet_xmodal.crossval.job import Job, executable, jobs_of
from nnunet_xmodal.errors import XModalError


def test_its_folder_and_command_are_nnunets(make_job, tmp_path):
    job = make_job(3, flags=("--npz", "-device", "cpu"))
    assert job.folder == tmp_path / "results" / "Dataset999_Tiny" / "nnUNetTrainer__nnUNetPlans__2d" / "fold_3"
    call = "nnUNetv2_train Dataset999_Tiny 2d 3 -tr nnUNetTrainer -p nnUNetPlans --npz -device cpu"
    assert job.command() == call.split()
    assert job.command("--c") == [*call.split(), "--c"]


def test_every_fold_starts_from_its_own_weights(make_job):
    job = make_job(flags=("-pretrained_weights", "CMFT/fold_{fold}/checkpoint_final.pth"), fold=3)
    assert job.command()[-2:] == ["-pretrained_weights", "CMFT/fold_3/checkpoint_final.pth"]


def test_pretrained_weights_go_with_a_new_training_only(make_job):
    job = make_job(flags=("-pretrained_weights", "weights.pth", "--npz"))
    assert job.command()[-3:] == ["-pretrained_weights", "weights.pth", "--npz"]
    assert job.command("--c")[-3:] == ["nnUNetPlans", "--npz", "--c"]


def test_jobs_travel_as_json(make_job):
    job = make_job("all", flags=("--npz",), previous="3d_lowres")
    assert Job.from_dict(json.loads(json.dumps(job.as_dict()))) == job


def test_folds_follow_each_other_so_that_what_was_interrupted_compares_trainers(tmp_path):
    jobs = jobs_of(tmp_path, "Dataset999_Tiny", ["2d"], ["A", "B"], ["nnUNetPlans"], [0, 1])
    assert [(job.fold, job.trainer) for job in jobs] == [(0, "A"), (0, "B"), (1, "A"), (1, "B")]
    assert len(set(jobs_of(tmp_path, "D", ["2d", "3d_fullres"], ["A", "B"], ["P", "Q"], [0, 1, "all"]))) == 24


def test_scripts_of_this_environment_come_before_those_of_the_path(tmp_path, monkeypatch):
    for folder in ("environment", "elsewhere"):
        (tmp_path / folder).mkdir()
        script = tmp_path / folder / "nnUNetv2_train"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "environment" / "python"))
    monkeypatch.setattr(module.sysconfig, "get_path", lambda _: str(tmp_path / "scripts"))
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    assert executable("nnUNetv2_train") == str(tmp_path / "environment" / "nnUNetv2_train")
    shutil.rmtree(tmp_path / "environment")
    assert executable("nnUNetv2_train") == str(tmp_path / "elsewhere" / "nnUNetv2_train")
    shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(XModalError, match="nnUNetv2_train is not found: install nnunetv2"):
        executable("nnUNetv2_train")
