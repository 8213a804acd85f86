"""The printed script is what a shell runs: nothing of what is finished, stages in order, hostile names quoted."""

import os
import shlex
import subprocess

from nnunet_xmodal import discovery
from nnunet_xmodal.crossval.printed import script


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.splitlines() if line.startswith("nnUNetv2_train")]


def test_only_what_is_left(make_job, write_checkpoint, write_summary):
    jobs = [make_job(fold) for fold in range(4)]
    for fold, name in enumerate(("final", "final", "latest")):
        write_checkpoint(jobs[fold], name)
    write_summary(jobs[0])
    assert commands(script([jobs])) == [jobs[1].command("--val"), jobs[2].command("--c"), jobs[3].command()]


def test_nothing_left(make_job, write_checkpoint, write_summary):
    write_checkpoint(make_job(), "final"), write_summary(make_job())
    assert commands(script([[make_job()]])) == []


def test_stages_are_divided_by_a_comment(make_job):
    lines = script([[make_job(configuration="3d_lowres")], [make_job(configuration="3d_cascade_fullres")]]).splitlines()
    assert [line.split()[0] for line in lines] == ["export", "nnUNetv2_train", "#", "nnUNetv2_train"]


def test_trainer_folders_that_were_there_stay(make_job, monkeypatch):
    monkeypatch.setenv(discovery.VARIABLE, "/my trainers")
    first = script([[make_job()]]).splitlines()[0]
    assert shlex.split(first) == ["export", f"{discovery.VARIABLE}=/my trainers{os.pathsep}{discovery.PLUGIN_FOLDER}"]


def test_an_unreadable_checkpoint_that_would_stop_a_continued_training_is_named(make_job, write_checkpoint):
    job = make_job()
    latest = write_checkpoint(job, "latest", intact=False)
    assert "#" not in script([[job]])  # a new training writes over it
    write_checkpoint(job, "best")
    text = script([[job]])
    assert f"# first delete {latest}" in text and commands(text) == [job.command("--c")]
    assert latest.is_file()


def test_a_shell_reads_every_word_as_it_is(make_job, tmp_path):
    job = make_job(flags=("-pretrained_weights", "it's $HOME; `date`.pth"))
    (tmp_path / "nnUNetv2_train").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "nnUNetv2_train").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh"], input=script([[job]]), env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == job.command()[1:]
