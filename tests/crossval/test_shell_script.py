"""The printed script is what a shell runs: nothing of what is finished, stages in order, hostile names quoted."""

import os
import shlex
import subprocess

import pytest

from nnunet_xmodal import discovery
from nnunet_xmodal.crossval.shell_script import quoted, script
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trust import VARIABLE


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
    assert f"# first rename {latest}, which is not readable, to ….unreadable" in text and commands(text) == [
        job.command("--c")
    ]
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


HOSTILE = [
    "a b",
    "it's",
    'say "x"',
    "$HOME; `date` $(date) \\ * ? ~ # & | < >",
    "-n",
    "%s %d\\n",
    "two\nlines",
    "\ntouch touched #",
    "x'\ntouch touched\n'",
    "tab\tand\rreturn\x07",
    "ä\n漢字",
    "next\x85line\u2028",
]


@pytest.mark.parametrize("word", HOSTILE)
def test_a_word_is_one_line_and_comes_back_as_it_was(word, tmp_path):
    line = f"printf %s {quoted(word)}"
    assert len(line.splitlines()) == 1
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=True)
    assert os.fsdecode(done.stdout) == word and not list(tmp_path.iterdir())


def test_a_word_that_no_shell_keeps():
    with pytest.raises(XModalError, match="ends with a line break"):
        quoted("a\n")


@pytest.mark.parametrize("word", HOSTILE)
def test_a_script_has_one_line_for_each_training_whatever_paths_hold(make_job, write_checkpoint, tmp_path, word):
    """Folders of trainers, results and weights; lines are counted by those who run them one by one."""
    results = tmp_path / "results" / word.replace("/", "_")
    job = make_job(flags=("-pretrained_weights", word))
    job = type(job)(**{**job.as_dict(), "flags": job.flags, "results": str(results)})
    write_checkpoint(job, "latest", intact=False), write_checkpoint(job, "best")
    other = make_job(1, flags=("-pretrained_weights", word))
    (tmp_path / "nnUNetv2_train").write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    (tmp_path / "nnUNetv2_train").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(discovery.VARIABLE, word)
        text = script([[job, other]])
    assert len(text.splitlines()) == 4  # variable, remark, two trainings
    assert text.splitlines()[1].startswith("# first rename ")
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        ["sh"], input=os.fsencode(text), env=environment, cwd=tmp_path, capture_output=True, check=True
    )
    assert os.fsdecode(done.stdout).split("\0")[:-1] == job.command("--c")[1:] + other.command()[1:]
    assert sorted(tmp_path.iterdir()) == before


def test_trust_stands_in_the_first_line(make_job, monkeypatch):
    assert VARIABLE not in script([[make_job()]])
    monkeypatch.setenv(VARIABLE, "1")
    first, _ = script([[make_job()]]).splitlines()
    assert shlex.split(first)[0] == "export" and shlex.split(first)[2] == f"{VARIABLE}=1"
