"""Jobs on a Slurm cluster: arrays of folds, submitted through submitit."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import time
from uuid import uuid4

from submitit.core.utils import FailedJobError, FailedSubmissionError

from nnunet_xmodal import discovery
from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.job_start import JobStart, start_of
from nnunet_xmodal.crossval.sbatch import SbatchExecutor
from nnunet_xmodal.crossval.slurm_fold import SlurmFold
from nnunet_xmodal.crossval.slurm_record import SlurmRecord, Submission
from nnunet_xmodal.crossval.slurm_settings import SlurmSettings
from nnunet_xmodal.errors import XModalError

FOLDER = "crossval_slurm"
"""In a dataset's results: what was submitted, and what the jobs print beside their trainings' logs."""

_ANY_NUMBER = 10_000  # of requeues; SlurmFold stops those that make no progress


def submit(
    waves: Sequence[Sequence[Job]],
    dataset_results: Path,
    settings: SlurmSettings,
    inputs: Mapping[Job, Sequence[Path]] | None = None,
) -> int:
    """Submit what is neither finished nor in the queue, and print a line per job.

    A job that failed is reported with the end of its log and submitted again: it is for that that the command is given
    again.

    Args:
        waves: the stages of a cascade; a fold waits until all folds of its previous stage have ended well.
        inputs: what each job reads and looks at before it trains.

    Returns:
        0: every job is finished or in the queue.

    Raises:
        XModalError: without Slurm, or for what sbatch refuses; what was submitted before remains in the queue.
    """
    check_sbatch()
    record = SlurmRecord(dataset_results / FOLDER)
    queued = record.queued(job for wave in waves for job in wave)
    ids = {job: entry.id for job, entry in queued.items()}
    n_submitted = n_queued = n_finished = 0
    earlier: list[Job] = []
    for wave in waves:
        unfinished = [job for job in wave if start_of(job) is not JobStart.FINISHED]
        n_finished += len(wave) - len(unfinished)
        for job in unfinished:
            if job in queued:
                n_queued += 1
                print(f"{job.name}: {queued[job]}, log {job.log}")
            elif words := record.last_words(job):
                print(words)
        for dependency, leaders, array in _arrays(unfinished, earlier, ids):
            ids |= _submit_array(array, dependency, leaders, record, settings, inputs or {})
            n_submitted += len(array)
        earlier += unfinished
    print(f"{n_submitted} submitted, {n_queued} in the queue before, {n_finished} finished before")
    if n_submitted or n_queued:
        print("squeue --me shows the queue, scancel <id> takes a job out; give this command again to see what failed")
    return 0


def check_sbatch() -> None:
    """Check that sbatch can be called.

    Raises:
        XModalError: without Slurm.
    """
    if shutil.which("sbatch") is None:
        raise XModalError(
            "the command sbatch is not found: go to a machine from which jobs are submitted, or take --executor print "
            "for another scheduler."
        )


def _arrays(
    unfinished: Sequence[Job], earlier: Sequence[Job], ids: dict[Job, str]
) -> Iterator[tuple[str | None, dict[str, Job], list[Job]]]:
    """Yield what to submit together: dependency, model → its leader, folds.

    nnU-Net writes the files that the folds of a model share (plans, dataset.json, fingerprint) in place at the start of
    every training. So where they are not there yet, the other folds may begin when one, the leader, has begun
    (`after:`). Slurm could add minutes to that, but how long a start takes depends on the cluster's file system: the
    jobs wait themselves until the leader's first epoch.

    Args:
        ids: of what is in the queue; has to be extended by every array before the next one is asked for.
    """
    stages: dict[tuple[Job, ...], list[Job]] = {}
    for job in unfinished:
        needed = tuple(e for e in earlier if job.reads(e))
        stages.setdefault(needed, []).append(job)
    for needed, jobs in stages.items():
        leaders: dict[str, Job] = {}
        for job in sorted(jobs, key=lambda job: job not in ids):
            if not (job.model_folder / "plans.json").is_file():
                leaders.setdefault(job.model, job)
        after_stage = _after("afterok", (ids[job] for job in needed))
        left = [job for job in jobs if job not in ids]
        first = [job for job in left if leaders.get(job.model, job) == job]
        if first:
            yield after_stage, {}, first
        others = [job for job in left if job not in first]
        if others:
            after_leaders = _after("after", (ids[job] for job in leaders.values()))
            yield ",".join(filter(None, (after_stage, after_leaders))), leaders, others


def _after(kind: str, ids: Iterable[str]) -> str | None:
    ids = list(ids)
    return ":".join([kind, *ids]) if ids else None


def _submit_array(
    jobs: Sequence[Job],
    dependency: str | None,
    leaders: dict[str, Job],
    record: SlurmRecord,
    settings: SlurmSettings,
    inputs: Mapping[Job, Sequence[Path]],
) -> dict[Job, str]:
    """Slurm's ids of the jobs."""
    name = f"crossval_{uuid4().hex[:12]}"
    submissions = {job: Submission(name, index, time()) for index, job in enumerate(jobs)}
    for job, submission in submissions.items():
        record.write(job, submission)
    environment = _environment(settings)
    folds = [SlurmFold(job, environment, settings.minutes, leaders.get(job.model), inputs.get(job, ())) for job in jobs]
    executor = SbatchExecutor(record.folder, max_num_timeout=_ANY_NUMBER)
    executor.update_parameters(job_name=name, dependency=dependency, **settings.parameters)
    try:
        with _not_as_part_of_a_job():
            submitted = executor.submit_array(folds)
    except (FailedJobError, FailedSubmissionError) as error:
        answered = (
            "the answer of sbatch cannot be read" if "it answered" in str(error) else "sbatch does not take the jobs"
        )
        raise XModalError(f"{answered}: {error}") from error
    ids = {job: slurm_job.job_id for job, slurm_job in zip(jobs, submitted)}
    for job, submission in submissions.items():
        record.write(job, Submission(submission.array, submission.index, submission.time, ids[job]))
        waits = f", waits for {dependency}" if dependency else ""
        print(f"{job.name}: submitted as {ids[job]}{waits}, log {job.log}")
    return ids


def _environment(settings: SlurmSettings) -> dict[str, str]:
    """nnU-Net's variables, and as many processes as a job has cores unless they say otherwise.

    nnU-Net counts the cores of the node, and most of them belong to others.
    """
    processes = {"nnUNet_n_proc_DA": str(min(settings.cpus, 12)), "nnUNet_def_n_proc": str(min(settings.cpus, 8))}
    own = {name: value for name, value in os.environ.items() if name.startswith(("nnUNet_", "nnUNetXModal_"))}
    return {**processes, **own, discovery.VARIABLE: discovery.extended_value(own.get(discovery.VARIABLE))}


@contextmanager
def _not_as_part_of_a_job() -> Iterator[None]:
    """Hide what Slurm sets within a job, which would otherwise shape jobs that are submitted from there.

    Not submitit's `clean_env`: it also hides SLURM_CONF, without which some clusters are not found, and SBATCH_ACCOUNT.
    """
    hidden = {}
    if "SLURM_JOB_ID" in os.environ:
        names = [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]
        hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)
