"""What is submitted, by an sbatch and a squeue that only write down and read out; tests/end_to_end has a real Slurm."""

import os
import re
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from time import time

import pytest

from nnunet_xmodal.crossval.request import CrossvalRequest
from nnunet_xmodal.crossval.slurm import FOLDER, submit
from nnunet_xmodal.crossval.slurm_fold import SlurmFold
from nnunet_xmodal.crossval.slurm_settings import SlurmSettings, minutes_of
from nnunet_xmodal.errors import XModalError

SBATCH = """\
cd {folder}
[ -e refused ] && {{ echo "sbatch: error: invalid partition specified: none" >&2; exit 1; }}
n=$(ls | grep -c '[.]sh$')
cp "$1" $((100 + n)).sh
echo "Submitted batch job $((100 + n))"
"""
SQUEUE = """\
[ -e {folder}/down ] && {{ echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }}
cat {folder}/queue
"""


class FakeSlurm:
    """Scripts that were submitted, under the number of their job; a queue to write into."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def scripts(self) -> dict[int, str]:
        return {int(file.stem): file.read_text() for file in sorted(self.folder.glob("*.sh"))}

    def option(self, number: int, name: str) -> str | None:
        match = re.search(rf"^#SBATCH --{name}(?:=(.*))?$", self.scripts[number], flags=re.MULTILINE)
        return match and (match[1] or "")

    def fill_queue(self, numbers=None, state: str = "RUNNING|None") -> None:
        """With everything that was submitted, or with what has these numbers."""
        lines = []
        for number in self.scripts if numbers is None else numbers:
            last = re.match(r"0-(\d+)", self.option(number, "array") or "")
            for id in [f"{number}_{i}" for i in range(int(last[1]) + 1)] if last else [f"{number}"]:
                lines.append(f"{self.option(number, 'job-name')}|{id}|{state}\n")
        (self.folder / "queue").write_text("".join(lines))


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> FakeSlurm:
    folder, programs = tmp_path / "slurm", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("srun", "exit 1")):
        (programs / name).write_text("#!/bin/sh\n" + text.format(folder=folder))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    fake = FakeSlurm(folder)
    fake.fill_queue()
    return fake


@pytest.fixture
def submitted(tmp_path, capsys):
    """`(waves)` → what `submit` prints."""

    def run(*waves, settings: SlurmSettings | None = None) -> str:
        assert submit(waves, tmp_path / "results" / "Dataset999_Tiny", settings or SlurmSettings()) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def make_known(make_job):
    """`(fold, **others)` → a job whose model has been trained before, on other folds."""

    def make(fold=0, **others):
        job = make_job(fold, **others)
        job.model_folder.mkdir(parents=True, exist_ok=True)
        (job.model_folder / "plans.json").write_text("{}")
        return job

    return make


@pytest.mark.parametrize(
    ("time", "minutes"),
    [
        ("90", 90),
        ("90:00", 90),
        ("90:01", 91),
        ("1:30:00", 90),
        ("1-12", 36 * 60),
        ("1-00:30", 24 * 60 + 30),
        ("1-12:00:00", 36 * 60),
        ("0:00:01", 1),
    ],
)
def test_time_limits_as_slurm_writes_them(time, minutes):
    assert minutes_of(time) == minutes


@pytest.mark.parametrize("time", ["", "a day", "1d", "0", "1:2:3:4", "-5", "UNLIMITED"])
def test_time_limits_that_are_none(time):
    with pytest.raises(XModalError, match=f"--time {time}"):
        minutes_of(time)


def settings_of(*options: str, **others) -> SlurmSettings:
    return SlurmSettings.of_request(CrossvalRequest("Tiny", ["2d"], sbatch_options=options, **others))


def test_options_of_sbatch():
    options = ("account=lab", "--cores-per-socket=2", "hold=true", "comment=a=b")
    settings = settings_of(*options)
    assert settings.extra == {"account": "lab", "cores_per_socket": "2", "hold": True, "comment": "a=b"}


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("exclusive", "key=value"),
        ("account=", "key=value"),
        ("=lab", "key=value"),
        ("cpus-per-task=4", "--cpus"),
        ("time=5", "--time"),
        ("array=1-5", "cannot be chosen"),
    ],
)
def test_options_that_are_none(word, hint):
    with pytest.raises(XModalError, match=f"--slurm {word}.*{hint}"):
        settings_of(word)


def test_gpus_and_memory_are_asked_for_once():
    def parameters(*options, **others):
        return settings_of(*options, **others).parameters

    assert parameters(gpus_per_training=2)["gpus_per_node"] == 2
    assert parameters(device="cpu")["gpus_per_node"] is None
    assert parameters(device="mps")["gpus_per_node"] is None
    assert "gpus_per_node" not in parameters("gres=gpu:a100:1")
    assert "gpus_per_node" not in parameters("gpus=1")
    assert parameters("gres=shard:1")["gpus_per_node"] == 1
    assert "mem" not in parameters("mem-per-cpu=4G")


def test_folds_of_a_new_model_wait_for_the_first(slurm, submitted, make_job):
    jobs = [make_job(fold, trainer=trainer) for fold in (0, 1, 2) for trainer in ("nnUNetTrainer", "nnUNetTrainerCSAD")]
    output = submitted(jobs, settings=SlurmSettings(at_once=3))
    assert list(slurm.scripts) == [100, 101]
    assert slurm.option(100, "array") == "0-1%2" and slurm.option(100, "dependency") is None
    assert slurm.option(101, "array") == "0-3%3" and slurm.option(101, "dependency") == "after:100_0:100_1"
    assert "nnUNetTrainerCSAD__nnUNetPlans__2d, fold 0: submitted as 100_1, log " in output
    assert "nnUNetTrainerCSAD__nnUNetPlans__2d, fold 2: submitted as 101_3, waits for after:100_0:100_1, log " in output
    assert output.splitlines()[-2] == "6 submitted, 0 in the queue before, 0 finished before"


def test_folds_of_a_known_model_do_not_wait(slurm, submitted, make_known):
    submitted([make_known(fold) for fold in range(3)])
    assert list(slurm.scripts) == [100]
    assert slurm.option(100, "dependency") is None


def test_a_running_fold_is_the_one_to_wait_for(slurm, submitted, make_job):
    jobs = [make_job(fold) for fold in range(3)]
    submitted(jobs[1:2])
    slurm.fill_queue()
    submitted(jobs)
    assert slurm.option(101, "dependency") == "after:100"


def test_a_cascade_waits_for_all_folds_of_its_own_first_stage(slurm, submitted, make_known):
    trainers = ("nnUNetTrainer", "nnUNetTrainerCSAD")
    first = [make_known(f, trainer=t, configuration="3d_lowres") for f in (0, 1) for t in trainers]
    cascade = dict(configuration="3d_cascade_fullres", previous="3d_lowres")
    second = [make_known(f, trainer=t, **cascade) for f in (0, 1) for t in trainers]
    second.append(make_known(0, configuration="2d"))
    submitted(first, second)
    dependencies = [slurm.option(number, "dependency") for number in slurm.scripts]
    assert dependencies == [None, "afterok:100_0:100_2", "afterok:100_1:100_3", None]
    assert slurm.option(101, "kill-on-invalid-dep") == "yes"


def test_the_same_command_submits_nothing_twice(slurm, submitted, make_known, write_summary, write_checkpoint):
    jobs = [make_known(fold) for fold in range(3)]
    submitted(jobs)
    slurm.fill_queue(state="PENDING|Priority")
    write_checkpoint(jobs[2], "final")
    write_summary(jobs[2])
    output = submitted(jobs)
    assert list(slurm.scripts) == [100]
    assert "fold 0: pending as 100_0 (Priority), log " in output
    assert "0 submitted, 2 in the queue before, 1 finished before" in output


def test_what_failed_is_reported_and_submitted_again(slurm, submitted, make_known, tmp_path):
    jobs = [make_known(fold) for fold in range(4)]
    submitted(jobs)
    jobs[0].folder.mkdir()
    jobs[0].log.write_text("RuntimeError: CUDA out of memory\n")
    jobs[1].folder.mkdir()
    jobs[1].log.write_text("of an earlier start\n")
    os.utime(jobs[1].log, (0, time() - 3600))
    folder = tmp_path / "results" / "Dataset999_Tiny" / FOLDER
    (folder / "100_0_0_log.err").write_text(
        "Traceback\nslurmstepd: error: Detected 1 oom-kill event(s)\n"
        "slurmstepd: error: *** JOB 100 ON node CANCELLED AT 2025-01-01T00:00:00 DUE TO JOB REQUEUE ***\n"
    )
    (folder / "100_1_0_log.err").write_text("ImportError: libcuda.so.1\n")
    output = submitted(jobs)
    assert f"Slurm job 100_0 ended before this was finished; the end of {jobs[0].log}:\n" in output
    assert "CUDA out of memory\nslurmstepd: error: Detected 1 oom-kill event(s)\n" in output
    assert "100_1_0_log.err:\nImportError: libcuda.so.1\n" in output
    assert "of an earlier start" not in output
    assert "Slurm job 100_2 ended before this was finished: it did not start" in output
    assert "4 submitted, 0 in the queue before, 0 finished before" in output
    slurm.fill_queue([101])
    assert "running as 101_3" in submitted(jobs)


def test_killed_before_the_answer_of_sbatch_is_written_down(slurm, submitted, make_known, monkeypatch):
    job = make_known()
    with monkeypatch.context() as patch:
        patch.setattr("submitit.SlurmExecutor.submit_array", dies_after(slurm))
        with pytest.raises(KeyboardInterrupt):
            submitted([job])
    slurm.fill_queue()
    assert "running as 100" in submitted([job])
    assert list(slurm.scripts) == [100]


def dies_after(slurm):
    def submit_array(executor, folds):
        (slurm.folder / "100.sh").write_text(executor._make_submission_file_text("true", ""))
        raise KeyboardInterrupt

    return submit_array


def test_refusals(slurm, submitted, make_known):
    job = make_known()
    (slurm.folder / "refused").touch()
    with pytest.raises(XModalError, match="sbatch does not take the jobs: .*invalid partition"):
        submitted([job])
    (slurm.folder / "refused").unlink()
    assert submitted([job]).startswith(f"{job.name}: submitted as 100, ")  # nothing ended before, nothing to report
    (slurm.folder / "down").touch()
    with pytest.raises(XModalError, match="squeue .*Unable to contact slurm controller"):
        submitted([job])


def test_no_slurm(submitted, make_job, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(XModalError, match="sbatch is not found.*--executor print"):
        submitted([make_job()])


def test_submitted_from_within_a_job(slurm, submitted, make_known, monkeypatch, tmp_path):
    """The new job must not take the surrounding one's cores, but has to find the cluster."""
    (tmp_path / "programs" / "sbatch").write_text(f"#!/bin/sh\nenv > {tmp_path}/seen; echo Submitted batch job 7\n")
    variables = dict(SLURM_JOB_ID="5", SLURM_CPUS_PER_TASK="1", SLURM_CONF="/etc/slurm.conf", SBATCH_ACCOUNT="lab")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    submitted([make_known()])
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines() if "=" in line)
    assert {name for name in variables if name in seen} == {"SLURM_CONF", "SBATCH_ACCOUNT"}
    assert os.environ["SLURM_JOB_ID"] == "5"


def test_nnunets_variables_travel_with_the_job(slurm, submitted, make_known, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_n_proc_DA", "3")
    monkeypatch.setenv("nnUNet_raw", "/data/raw")
    monkeypatch.delenv("nnUNet_def_n_proc", raising=False)
    folds = []
    monkeypatch.setattr(
        "submitit.SlurmExecutor.submit_array", lambda _, new: folds.extend(new) or [Namespace(job_id="1")]
    )
    submitted([make_known()], settings=SlurmSettings(cpus=5))
    (fold,) = folds
    assert fold.environment["nnUNet_raw"] == "/data/raw"
    assert fold.environment["nnUNet_n_proc_DA"] == "3"
    assert fold.environment["nnUNet_def_n_proc"] == "5"  # as many as the job has cores
    assert fold.environment["nnUNet_extTrainer"].endswith("plugin")


def test_a_job_looks_at_what_it_reads_where_it_runs(make_job, tmp_path):
    job, file = make_job(), tmp_path / "case.pkl"
    file.write_bytes(b"")
    fold = SlurmFold(job, {}, minutes=60, inputs=[file])
    with pytest.raises(XModalError, match=r"case\.pkl is missing, cut off or damaged: run nnUNetXModal_plan_and"):
        fold()
    assert "case.pkl is missing, cut off or damaged" in job.log.read_text()
    fold._began, fold._before = time(), [-1]
    assert fold.checkpoint().function.inputs == (file,)


def test_out_of_time_without_progress_is_not_requeued(make_job, write_checkpoint):
    job = make_job()
    fold = SlurmFold(job, {}, minutes=60)
    fold._began, fold._before = time() - 3500, fold._checkpoints()
    with pytest.raises(RuntimeError, match="without a new checkpoint"):
        fold.checkpoint()
    assert "give more --time" in job.log.read_text()
    write_checkpoint(job, "latest")
    again = fold.checkpoint().function
    assert again.job == job and again.minutes == 60


def test_preempted_without_progress_is_requeued(make_job):
    fold = SlurmFold(make_job(), {"nnUNet_raw": "raw"}, minutes=60, leader=replace(make_job(), fold=1))
    fold._began, fold._before = time() - 600, fold._checkpoints()
    again = fold.checkpoint().function
    assert (again.environment, again.leader.fold) == ({"nnUNet_raw": "raw"}, 1)
