"""The split that all jobs of a cross-validation share, and the cases that it is made of."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_xmodal.datasets import grouped_split
from nnunet_xmodal.datasets.presence import patterns_of, read_missing
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.dataset_json import read_trainable


def preprocessed_cases(preprocessed: Path) -> list[str]:
    """Return the names of the training cases of a preprocessed dataset.

    Raises:
        XModalError: without dataset.json.
    """
    file = preprocessed / "dataset.json"
    if not file.is_file():
        raise XModalError(f"{file} is missing: run nnUNetXModal_plan_and_preprocess, or check -d.")
    ending = read_trainable(file)["file_ending"]
    folder = preprocessed / "gt_segmentations"
    return sorted(file.name.removesuffix(ending) for file in folder.glob(f"*{ending}"))


def split_of_jobs(
    folds: Sequence[int | str],
    preprocessed: Path,
    results: Path,
    cases: Sequence[str],
    subjects: Mapping[str, str] | None,
) -> list[dict[str, list[str]]]:
    """Return the split by subject, the one that is there, or nnU-Net's own; empty if there is none and no need.

    Where cases lack channels, new folds have nearly equal numbers of cases with each pattern of presence.

    Args:
        folds: that are trained.
        preprocessed, results: folders of the dataset.
        cases: of the dataset.
        subjects: case → subject, for a split by subject.

    Raises:
        XModalError: for folds that it does not have, fewer cases than folds, or trainings that used another one.
    """
    file = preprocessed / "splits_final.json"
    numbers = [fold for fold in folds if isinstance(fold, int)]
    missing = read_missing(preprocessed)
    patterns = patterns_of(cases, missing) if missing else None
    if subjects:
        split = grouped_split.grouped_split(subjects, patterns=patterns)
        grouped_split.check_unused(preprocessed, results, split)
    else:
        known = grouped_split.read_split(file)
        if known is None and not numbers:
            return []
        split = _new_split(cases, preprocessed, patterns) if known is None else known
    if max(numbers, default=0) >= len(split):
        # nnU-Net would train a random 80:20 split with nothing but a line in its log
        raise XModalError(f"-f {max(numbers)}: {file} has the folds 0 to {len(split) - 1}.")
    return split


def _new_split(
    cases: Sequence[str], preprocessed: Path, patterns: Mapping[str, str] | None
) -> list[dict[str, list[str]]]:
    if len(cases) < grouped_split.N_FOLDS:
        raise XModalError(
            f"{preprocessed} holds {len(cases)} cases, but nnU-Net's split needs at least five: write "
            f"{preprocessed / 'splits_final.json'}, or train -f all."
        )
    if patterns is not None:
        return grouped_split.split_by_pattern(patterns)
    from nnunetv2.utilities.crossval_split import generate_crossval_split  # imports scikit-learn

    return generate_crossval_split(cases)


def write_split(
    split: Sequence[Mapping[str, Sequence[str]]], preprocessed: Path, results: Path, subjects: Mapping[str, str] | None
) -> None:
    """Write the split before the first job, so that no two jobs write it at once; keep the one that is there."""
    file = preprocessed / "splits_final.json"
    missing = read_missing(preprocessed)
    also = " with nearly as many cases of each pattern of presence" if missing else ""
    if subjects:
        patterns = patterns_of(subjects, missing) if missing else None
        if grouped_split.write_grouped_split(preprocessed, results, subjects, patterns):
            print(f"{file}: {len(split)} folds by subject{also}", file=sys.stderr)
    elif split and not file.is_file():
        write_json(split, file)
        if also:
            print(f"{file}: {len(split)} folds{also}", file=sys.stderr)
