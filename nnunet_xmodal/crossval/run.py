"""From the flags of `nnUNetXModal_crossval` to trained folds."""

import os
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import discovery
from nnunet_xmodal.crossval import slurm
from nnunet_xmodal.crossval.cascade import check_previous_stages
from nnunet_xmodal.crossval.job import Job, executable, jobs_of
from nnunet_xmodal.crossval.live_table import LiveTable
from nnunet_xmodal.crossval.local import NOT_STARTED, Slot, run_locally
from nnunet_xmodal.crossval.printed import script
from nnunet_xmodal.crossval.supervised import RUNS_ELSEWHERE
from nnunet_xmodal.crossval.trusted_jobs import check_trusted
from nnunet_xmodal.crossval.whole_files import check_inputs, restore_model_files, validate_again
from nnunet_xmodal.datasets import grouped_split
from nnunet_xmodal.datasets.split_file import check_split, known_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.dataset_json import read_trainable
from nnunet_xmodal.files.dataset_names import dataset_name
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.folders import check_output_folder
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.trust import trusting
from nnunet_xmodal.files.trusted_plans import check_plans


def crossval(args: Namespace) -> int:
    """Checks everything that could stop a job, then runs, submits or prints the jobs.

    Args:
        args: see `commands/crossval.py`.

    Returns:
        0 if all jobs are finished (submitted, printed), 1 if one failed or is left to another scheduler.

    Raises:
        XModalError: before anything is written, for what is missing, contradicts itself or could run code of whoever
            made it.
    """
    with trusting(args.trust):
        return _crossval(args)


def _crossval(args: Namespace) -> int:
    require_variables("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    discovery.register()
    dataset = dataset_name(args.d)
    preprocessed = Path(os.environ["nnUNet_preprocessed"]) / dataset
    results = Path(os.environ["nnUNet_results"])
    check_output_folder(results, "nnUNet_results")
    for name, values in (("-c", args.c), ("-tr", args.tr), ("-p", args.p), ("-f", args.f)):
        _check_unique(name, values)
    for trainer in args.tr:
        _check_trainer(trainer)
    waves = _waves(args, preprocessed, dataset, results)
    jobs = [job for wave in waves for job in wave]
    slots = _slots(args) if args.executor == "local" else []
    settings = None
    if args.executor == "slurm":
        settings = slurm.SlurmSettings.from_arguments(args)
        slurm.check_sbatch()
    if args.executor != "print":
        executable("nnUNetv2_train")
    cases = _cases(preprocessed)
    subjects = grouped_split.subjects_of(cases, args.group_by) if args.group_by else None
    split = _split(args.f, preprocessed, results / dataset, cases, subjects)
    check_split(split, args.f, preprocessed / "splits_final.json", known_cases(_data_folders(args, preprocessed)))
    cases_of = {**dict(enumerate(split)), "all": {"train": cases, "val": cases}}
    check_previous_stages(jobs, cases_of)
    check_trusted(jobs)
    check_inputs(jobs, cases_of, preprocessed)
    restore_model_files(jobs)
    _write_split(split, preprocessed, results / dataset, subjects)

    if args.executor == "print":
        print(script(waves))
        return 0
    validate_again(jobs)
    if args.executor == "slurm":
        return slurm.submit(waves, results / dataset, settings)
    try:
        statuses = run_locally(waves, slots, LiveTable(jobs))
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


_OUTCOMES = {RUNS_ELSEWHERE: "run elsewhere", NOT_STARTED: "were not started"}


def _check_unique(flag: str, values: Sequence) -> None:
    for value in values:
        if values.count(value) > 1:
            raise XModalError(f"{flag} names {value} twice: once is enough.")


def _check_trainer(name: str) -> None:
    try:
        with redirect_stdout(StringIO()):  # it prints where it searches, and --executor print is piped into shells
            recursive_find_trainer_class_by_name(name)
    except (RuntimeError, ImportError, AssertionError) as error:
        raise XModalError(f"-tr {name} is no trainer that nnU-Net finds ({str(error).splitlines()[0]}).") from error


def _waves(args: Namespace, preprocessed: Path, dataset: str, results: Path) -> list[list[Job]]:
    """The configurations in the order of their stages: a cascade reads what its previous stage predicted."""
    previous = {}
    for plans in args.p:
        manager = _plans(preprocessed, plans)
        for name in args.c:
            _check_preprocessed(manager, name, plans, preprocessed)
            previous[plans, name] = manager.get_configuration(name).previous_stage_name
    jobs = [
        replace(job, previous=previous[job.plans, job.configuration])
        for job in jobs_of(results, dataset, args.c, args.tr, args.p, args.f, _flags(args))
    ]
    first = [job for job in jobs if job.previous is None]
    second = [job for job in jobs if job.previous is not None]
    return [wave for wave in (first, second) if wave]


def _plans(preprocessed: Path, name: str) -> PlansManager:
    file = preprocessed / f"{name}.json"
    if not file.is_file():
        raise XModalError(f"{file} is missing: run nnUNetXModal_plan_and_preprocess, or check -d and -p.")
    plans = read_json(file)
    check_plans(plans, file)
    return PlansManager(plans)


def _check_preprocessed(manager: PlansManager, configuration: str, plans: str, preprocessed: Path) -> None:
    if configuration not in manager.available_configurations:
        known = ", ".join(manager.available_configurations)
        raise XModalError(f"-c {configuration} is not in {preprocessed / plans}.json: take one of {known}.")
    folder = preprocessed / manager.get_configuration(configuration).data_identifier
    if not folder.is_dir() or not any(folder.iterdir()):
        raise XModalError(f"{folder} holds no data: run nnUNetv2_preprocess -c {configuration} -plans_name {plans}.")


def _data_folders(args: Namespace, preprocessed: Path) -> list[Path]:
    """Return where the preprocessed cases of every plan and configuration lie."""
    managers = [_plans(preprocessed, plans) for plans in args.p]
    names = {manager.get_configuration(name).data_identifier for manager in managers for name in args.c}
    return [preprocessed / name for name in sorted(names)]


def _flags(args: Namespace) -> list[str]:
    """What is passed on to every nnUNetv2_train."""
    if args.num_gpus > 1 and args.device != "cuda":
        raise XModalError(f"-num_gpus {args.num_gpus} goes with -device cuda, not with -device {args.device}.")
    for fold in args.f if args.pretrained_weights else ():
        weights = args.pretrained_weights.replace("{fold}", str(fold))
        if not Path(weights).is_file():
            raise XModalError(f"-pretrained_weights {weights} does not exist.")
    flags = ["-device", args.device] if args.device != "cuda" else []
    flags += ["-num_gpus", str(args.num_gpus)] if args.num_gpus != 1 else []
    flags += ["-pretrained_weights", str(Path(args.pretrained_weights).resolve())] if args.pretrained_weights else []
    return flags + (["--npz"] if args.npz else []) + (["--val_best"] if args.val_best else [])


def _slots(args: Namespace) -> list[Slot]:
    """One per job that runs at once; on GPUs each has its own, or as many as a job trains on."""
    if os.name == "nt":
        raise XModalError("--executor local needs process groups, which Windows lacks: take --executor print.")
    if args.device != "cuda":
        if args.gpus is not None:
            raise XModalError(f"--gpus goes with -device cuda, not with -device {args.device}.")
        return [None] * (args.jobs or 1)
    gpus = _gpus(args.gpus)
    if len(gpus) < args.num_gpus:
        raise XModalError(f"-num_gpus {args.num_gpus} needs as many GPUs, but there are {len(gpus)}.")
    slots = [",".join(gpus[i : i + args.num_gpus]) for i in range(0, len(gpus) - args.num_gpus + 1, args.num_gpus)]
    n_jobs = args.jobs or len(slots)
    return [slots[i % len(slots)] for i in range(n_jobs)]


def _gpus(wanted: Sequence[str] | None) -> list[str]:
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        raise XModalError("there is no CUDA device: add -device cpu.")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # CUDA ignores what follows the first ID that it does not know
    known = [gpu.strip() for gpu in visible.split(",")][:count] if visible else [str(i) for i in range(count)]
    _check_unique("--gpus", wanted or ())
    for gpu in wanted or ():
        if gpu not in known:
            raise XModalError(f"--gpus {gpu} is none of this machine's: take from {' '.join(known)}.")
    return list(wanted or known)


def _split(
    folds: Sequence[int | str],
    preprocessed: Path,
    results: Path,
    cases: Sequence[str],
    subjects: Mapping[str, str] | None,
) -> list[dict[str, list[str]]]:
    """The split of all jobs: by subject, the one that is there, or nnU-Net's own. Empty if there is none and no need.

    Raises:
        XModalError: for folds that it does not have, fewer cases than folds, or trainings that used another one.
    """
    file = preprocessed / "splits_final.json"
    numbers = [fold for fold in folds if fold != "all"]
    split = grouped_split.grouped_split(subjects) if subjects else grouped_split.read_split(file)
    if subjects:
        grouped_split.check_unused(preprocessed, results, split)
    if split is None:
        if not numbers:
            return []
        if len(cases) < grouped_split.N_FOLDS:
            raise XModalError(
                f"{preprocessed} holds {len(cases)} cases, but nnU-Net's split needs at least five: write {file}, or "
                "train -f all."
            )
        from nnunetv2.utilities.crossval_split import generate_crossval_split  # imports scikit-learn

        split = generate_crossval_split(cases)
    if max(numbers, default=0) >= len(split):
        # nnU-Net would train a random 80:20 split with nothing but a line in its log
        raise XModalError(f"-f {max(numbers)}: {file} has the folds 0 to {len(split) - 1}.")
    return split


def _write_split(
    split: Sequence[Mapping[str, Sequence[str]]], preprocessed: Path, results: Path, subjects: Mapping[str, str] | None
) -> None:
    """Before the first job, so that no two jobs write it at once."""
    file = preprocessed / "splits_final.json"
    if subjects:
        if grouped_split.write_grouped_split(preprocessed, results, subjects):
            print(f"{file}: {len(split)} folds by subject", file=sys.stderr)
    elif split and not file.is_file():
        write_json(split, file)


def _cases(preprocessed: Path) -> list[str]:
    file = preprocessed / "dataset.json"
    if not file.is_file():
        raise XModalError(f"{file} is missing: run nnUNetXModal_plan_and_preprocess, or check -d.")
    ending = read_trainable(file)["file_ending"]
    folder = preprocessed / "gt_segmentations"
    return sorted(file.name.removesuffix(ending) for file in folder.glob(f"*{ending}"))
