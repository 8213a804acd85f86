"""Folders whose paths have blanks: trainings here, printed commands, jobs of Slurm."""

import os
import shlex
import subprocess
from dataclasses import replace

import pytest

from nnunet_xmodal.crossval.live_table import LiveTable
from nnunet_xmodal.crossval.local import run_locally
from nnunet_xmodal.crossval.shell_script import script
from nnunet_xmodal.crossval.slurm import FOLDER, submit
from nnunet_xmodal.crossval.slurm_settings import SlurmSettings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="its stand-ins for commands are scripts for POSIX")

WEIGHTS = "my weights/fold {fold}.pth"
TELLS = '#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n'


@pytest.fixture
def tmp_path(tmp_path):
    folder = tmp_path / "my data (2)" / "of  May"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """`(name, text)` → a command on the PATH."""
    folder = tmp_path / "the programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(name: str, text: str) -> None:
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    return write


def test_a_training_here(fake_training, make_job, capsys):
    job = make_job(flags=("-pretrained_weights", WEIGHTS))
    statuses = run_locally([[job]], [None], LiveTable([job]))
    assert statuses == {job: 0}, capsys.readouterr().out
    assert fake_training.events[0]["flags"][-1] == "my weights/fold 0.pth"
    assert "of  May" in str(job.log) and job.log.is_file()


def test_printed_commands(programs, make_job):
    programs("nnUNetv2_train", TELLS)
    job = make_job(3, flags=("-pretrained_weights", WEIGHTS))
    done = subprocess.run(["sh"], input=script([[job]]), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == job.command()[1:] and "my weights/fold 3.pth" in done.stdout


def test_what_sbatch_and_srun_are_given(programs, make_job, tmp_path, capsys):
    taken = tmp_path / "taken.sh"
    programs("sbatch", f'#!/bin/sh\ncp "$1" {shlex.quote(str(taken))}\necho "Submitted batch job 100"\n')
    programs("squeue", "#!/bin/sh\n")
    programs("srun", TELLS)
    job = replace(make_job(), flags=("-pretrained_weights", WEIGHTS))
    folder = tmp_path / "results" / job.dataset
    assert submit([[job]], folder, SlurmSettings()) == 0, capsys.readouterr().out
    options = [shlex.split(line[8:]) for line in taken.read_text().splitlines() if line.startswith("#SBATCH ")]
    outputs = [word for (word,) in options if word.startswith(("--output=", "--error="))]
    assert len(outputs) == 2 and all(word.partition("=")[2].startswith(str(folder / FOLDER)) for word in outputs)
    told = subprocess.run(["sh", taken], capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[-1] == str(folder / FOLDER) and told[-2] == "submitit.core._submit"
