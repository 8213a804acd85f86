"""What trainings read and what they have left is looked at before they start: files may have been cut off."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.crossval.checkpoints import CHECKPOINTS, is_intact
from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.job_start import JobStart, set_aside_outdated_results, start_of
from nnunet_xmodal.files.complete import seems_complete
from nnunet_xmodal.files.in_place import check_whole, is_cut_json, preprocessed_files
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.stand_ins import save_json
from nnunet_xmodal.files.trusted_checkpoints import read_checkpoint

_IN_CHECKPOINT = {"plans.json": "plans", "dataset.json": "dataset_json"}
"""File of a model → what nnU-Net's checkpoints call its content, among the arguments of their trainer."""


def input_files(job: Job, split: Mapping[int | str, Mapping[str, Sequence[str]]], preprocessed: Path) -> list[Path]:
    """Return the preprocessed cases and reference labels of a fold; none where it is finished.

    Args:
        split: fold → "train" and "val" → cases; of the fold "all" only the files that exist are named.
        preprocessed: folder of the dataset.
    """
    if start_of(job) is JobStart.FINISHED:
        return []
    ending = read_json(preprocessed / "dataset.json")["file_ending"]
    cases = sorted({*split[job.fold]["train"], *split[job.fold]["val"]})
    plans = PlansManager(read_json(preprocessed / f"{job.plans}.json"))
    data = preprocessed_files(preprocessed / plans.get_configuration(job.configuration).data_identifier, cases)
    references = [preprocessed / "gt_segmentations" / f"{case}{ending}" for case in cases]
    return [file for file in (*data, *references) if job.fold != "all" or file.is_file()]


def check_inputs(files: Iterable[Path]) -> None:
    """Check that what trainings read is there to its last byte.

    nnU-Net reads a label map that is cut off as if background followed, and measures Dice with it.

    Args:
        files: see `input_files`; each is read once.

    Raises:
        XModalError: names the first file that is missing or cut off.
    """
    check_whole(dict.fromkeys(files), "run nnUNetXModal_plan_and_preprocess again, with the flags that made it")


def restore_model_files(jobs: Sequence[Job]) -> None:
    """Write plans.json and dataset.json of a model again where they are cut off, as its checkpoints have them.

    nnU-Net writes both whenever a training starts, also beside folds that are finished.

    Raises:
        XModalError: if they cannot be written.
    """
    for model in {job.model_folder: None for job in jobs}:
        for name, content in _IN_CHECKPOINT.items():
            file = model / name
            checkpoint = _newest(model) if file.is_file() and is_cut_json(file) else None
            if checkpoint is not None:
                arguments = read_checkpoint(checkpoint, mmap=True)["init_args"]
                save_json(arguments[content], str(file), sort_keys=False)
                print(f"{file} was cut off and is written again from {checkpoint}.", file=sys.stderr)


def validate_again(jobs: Sequence[Job]) -> None:
    """Set aside the summaries of finished jobs whose predictions are cut off, so that they are validated again.

    On a full disk nnU-Net writes half a prediction without a word, and measures Dice with what it reads of it.
    """
    for job in jobs:
        if start_of(job) is JobStart.FINISHED and (cut := _cut_predictions(job)):
            set_aside_outdated_results(job)
            others = f" and {len(cut) - 1} other files are" if len(cut) > 1 else " is"
            print(f"{cut[0]}{others} cut off: {job.name} is validated again.", file=sys.stderr)


def _cut_predictions(job: Job) -> list[Path]:
    """Return those of the summary that are there, but not to their end."""
    folder = job.folder / "validation"
    results = read_json(folder / "summary.json")["metric_per_case"]
    files = [folder / PureWindowsPath(result["prediction_file"]).name for result in results]  # of any system
    return [file for file in files if file.is_file() and not seems_complete(file)]


def _newest(model: Path) -> Path | None:
    files = [file for name in CHECKPOINTS for file in sorted(model.glob(f"fold_*/{name}")) if is_intact(file)]
    return files[0] if files else None
