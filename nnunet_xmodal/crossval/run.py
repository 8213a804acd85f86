"""From a request to trained folds: checks first, then trainings here, on a cluster, or as printed commands."""

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nnunet_xmodal import discovery
from nnunet_xmodal.crossval import slurm
from nnunet_xmodal.crossval.cascade import check_previous_stages
from nnunet_xmodal.crossval.incomplete import check_takes_incomplete_cases
from nnunet_xmodal.crossval.job import Job, executable
from nnunet_xmodal.crossval.job_start import JobStart, start_of
from nnunet_xmodal.crossval.live_table import LiveTable
from nnunet_xmodal.crossval.local import NOT_STARTED, Slot, run_locally
from nnunet_xmodal.crossval.request import CrossvalRequest
from nnunet_xmodal.crossval.shell_script import script
from nnunet_xmodal.crossval.slots import slots_of
from nnunet_xmodal.crossval.split import preprocessed_cases, split_of_jobs, write_split
from nnunet_xmodal.crossval.supervised import RUNS_ELSEWHERE
from nnunet_xmodal.crossval.trusted_jobs import check_trusted
from nnunet_xmodal.crossval.waves import data_folders, waves_of
from nnunet_xmodal.crossval.whole_files import check_inputs, input_files, restore_model_files, validate_again
from nnunet_xmodal.datasets.grouped_split import subjects_of, tell_of_shared_subjects
from nnunet_xmodal.datasets.split_file import check_split, known_cases
from nnunet_xmodal.files.dataset_names import dataset_name
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.folders import check_output_folder
from nnunet_xmodal.files.trust import trusting

_OUTCOMES = {RUNS_ELSEWHERE: "run elsewhere", NOT_STARTED: "were not started"}


def crossval(request: CrossvalRequest) -> int:
    """Check everything that could stop a job, then run, submit or print the jobs.

    Returns:
        0 if all jobs are finished (submitted, printed), 1 if one failed or is left to another scheduler.

    Raises:
        XModalError: before anything is written, for what is missing, contradicts itself or could run code of whoever
            made it.
    """
    with trusting(request.trust):
        require_variables("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        discovery.register()
        dataset = dataset_name(request.dataset)
        preprocessed = Path(os.environ["nnUNet_preprocessed"]) / dataset
        results = Path(os.environ["nnUNet_results"])
        check_output_folder(results, "nnUNet_results")
        waves = waves_of(request, preprocessed, results)
        if request.executor == "slurm":
            settings = slurm.SlurmSettings.of_request(request)
            slurm.check_sbatch()
        if request.executor == "local":
            slots = slots_of(request)
        if request.executor != "print":
            executable("nnUNetv2_train")
        inputs = _ready_files(request, waves, preprocessed, results / dataset)
        if request.executor == "print":
            print(script(waves))
            return 0
        validate_again([job for wave in waves for job in wave])
        if request.validate_best:
            _tell_of_validated(job for wave in waves for job in wave)
        if request.executor == "slurm":
            return slurm.submit(waves, results / dataset, settings, inputs)
        return _train_here(waves, slots)


def _tell_of_validated(jobs: Iterable[Job]) -> None:
    """Say which folds --val_best leaves alone: nnU-Net writes nowhere whose validation a folder holds."""
    done = [job.name for job in jobs if start_of(job) is JobStart.FINISHED]
    if done:
        print(
            f"--val_best: {len(done)} folds have a validation, of whichever checkpoint, and keep it ({done[0]}, …): "
            "rename their validation/summary.json to validate them again."
        )


def _ready_files(
    request: CrossvalRequest, waves: Sequence[Sequence[Job]], preprocessed: Path, results: Path
) -> dict[Job, list[Path]]:
    """Check what jobs read; write the split where there is none yet, and files of models that are cut off.

    The voxels of jobs for a cluster are looked at where the jobs run, which may have the files on disks of their own.

    Args:
        request: which folds, and by which subjects.
        waves: all jobs.
        preprocessed, results: folders of the dataset.

    Returns:
        The files that each job reads.
    """
    jobs = [job for wave in waves for job in wave]
    cases = preprocessed_cases(preprocessed)
    subjects = None if request.group_by is None else subjects_of(cases, request.group_by)
    split = split_of_jobs(request.folds, preprocessed, results, cases, subjects)
    known = known_cases(data_folders(request, preprocessed))
    check_split(split, request.folds, preprocessed / "splits_final.json", known)
    tell_of_shared_subjects(split, request.folds, preprocessed / "splits_final.json")
    cases_of: dict[int | str, Mapping[str, Sequence[str]]] = {
        **dict(enumerate(split)),
        "all": {"train": cases, "val": cases},
    }
    check_takes_incomplete_cases(jobs, cases_of, preprocessed)
    check_previous_stages(jobs, cases_of)
    check_trusted(jobs)
    inputs = {job: input_files(job, cases_of, preprocessed) for job in jobs}
    if request.executor != "slurm":
        check_inputs(file for files in inputs.values() for file in files)
    restore_model_files(jobs)
    write_split(split, preprocessed, results, subjects)
    return inputs


def _train_here(waves: Sequence[Sequence[Job]], slots: Sequence[Slot]) -> int:
    """Train on this machine; return 1 if a training is not finished."""
    try:
        statuses = run_locally(waves, slots, LiveTable([job for wave in waves for job in wave]))
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoints", file=sys.stderr)
        raise
    return _report(statuses)


def _report(statuses: Mapping[Job, int]) -> int:
    outcomes = defaultdict(list)
    for job, status in statuses.items():
        if status:
            outcomes[_OUTCOMES.get(status, "failed")].append(job.name)
    for outcome, names in outcomes.items():
        print(f"{len(names)} of {len(statuses)} trainings {outcome}: {'; '.join(names)}", file=sys.stderr)
    return int(bool(outcomes))
