"""Folds that do not leak: all cases of one subject (visits, orientations) on the same side of every split."""

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from nnunet_xmodal.datasets.split_file import Split, read_split_file
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.remarks import remark
from nnunet_xmodal.files.tables import read_columns, read_rows

N_FOLDS = 5
_SEED = 12345  # nnU-Net's
GROUPS_FILE = "splits_groups.json"
"""Beside `splits_final.json`: case → subject, which `nnUNetXModal_compare` takes as its unit."""


def subjects_of(cases: Sequence[str], group_by: str) -> dict[str, str]:
    """Return case → subject.

    Args:
        group_by: a CSV file of case and subject, the participants.tsv of BIDS, or a regular expression whose first
            group (the whole match if it has none) is the subject within a case's name.

    Raises:
        XModalError: for a case without a subject, an expression that is none, or a file with other columns.
    """
    if group_by.lower().endswith(".tsv"):
        return _from_participants(cases, Path(group_by))
    return _from_csv(cases, Path(group_by)) if group_by.lower().endswith(".csv") else _from_expression(cases, group_by)


def _from_participants(cases: Sequence[str], file: Path) -> dict[str, str]:
    """Return the participant of each case, whose name begins with it: `sub-01_ses-2`."""
    if not file.is_file():
        raise XModalError(f"--group-by {file} does not exist.")
    participants = {row["participant_id"] for _, row in read_columns(file, ("participant_id",))}
    subjects = {case: case.partition("_")[0] for case in cases}
    for case, subject in subjects.items():
        if subject not in participants:
            raise XModalError(f"{file} names no participant {subject}, which the case {case} is of: add it.")
    return subjects


def _from_expression(cases: Sequence[str], expression: str) -> dict[str, str]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise XModalError(f"--group-by {expression} is no regular expression ({error}).") from error
    subjects = {}
    for case in cases:
        match = pattern.search(case)
        subject = match and match[1 if pattern.groups else 0]
        if not subject:
            raise XModalError(
                f"--group-by {expression} finds no subject in the case name {case}: its first group must match, as "
                r"'^(.+)_visit\d+$' does in patient7_visit2."
            )
        subjects[case] = subject
    return subjects


def _from_csv(cases: Sequence[str], file: Path) -> dict[str, str]:
    if not file.is_file():
        raise XModalError(f"--group-by {file} does not exist.")
    subjects: dict[str, str] = {}
    for number, row in read_rows(file, lambda rows: all(len(cells) == 2 for _, cells in rows)):
        if len(row) != 2:
            raise XModalError(f"{file} has {len(row)} columns in line {number}: each is a case, a comma, a subject.")
        case, subject = row
        if subjects.setdefault(case, subject) != subject:
            raise XModalError(f"{file} gives the case {case} two subjects, {subjects[case]} and {subject}.")
    for case in cases:
        if not subjects.get(case):
            raise XModalError(f"{file} names no subject for the case {case}: add a line `{case},<subject>`.")
    return {case: subjects[case] for case in cases}


def grouped_split(
    subjects: Mapping[str, str], n_folds: int = N_FOLDS, patterns: Mapping[str, str] | None = None
) -> list[dict[str, list[str]]]:
    """Return a split in nnU-Net's format, with folds of nearly equal numbers of cases; equal for equal cases.

    Args:
        patterns: case → pattern, of which folds get nearly equal numbers as well; see `presence.patterns_of`.

    Raises:
        XModalError: for fewer subjects than folds.
    """
    cases = sorted(subjects)
    groups = [subjects[case] for case in cases]
    if len(set(groups)) < n_folds:
        raise XModalError(
            f"--group-by finds {len(set(groups))} subjects in {len(cases)} cases, but {n_folds} folds need at least "
            f"{n_folds}: group less, or write a splits_final.json by hand."
        )
    if patterns is not None and max(Counter(patterns[case] for case in cases).values()) >= n_folds:
        from sklearn.model_selection import StratifiedGroupKFold

        with warnings.catch_warnings():  # of patterns with fewer cases than folds, which some folds do without
            warnings.filterwarnings("ignore", "The least populated class")
            # shuffled here: the shuffling of older scikit-learns (1.7 for one) spoils the balance
            order = np.random.default_rng(_SEED).permutation(len(cases))
            mixed = [patterns[cases[i]] for i in order]
            folds = [
                tuple(np.sort(order[part]) for part in parts)
                for parts in StratifiedGroupKFold(n_folds).split(order, mixed, [groups[i] for i in order])
            ]
    else:
        from sklearn.model_selection import GroupKFold  # takes a second to import, and most folds are there already

        folds = list(GroupKFold(n_folds).split(cases, groups=groups))
    return [{"train": [cases[i] for i in train], "val": [cases[i] for i in val]} for train, val in folds]


def split_by_pattern(patterns: Mapping[str, str], n_folds: int = N_FOLDS) -> list[dict[str, list[str]]]:
    """Return a split in nnU-Net's format whose folds differ by one case at most, and by one of each pattern.

    Args:
        patterns: case → pattern.
    """
    cases = sorted(patterns)
    np.random.RandomState(_SEED).shuffle(cases)
    cases.sort(key=lambda case: patterns[case])  # keeps what is shuffled within a pattern
    validated = [sorted(cases[fold::n_folds]) for fold in range(n_folds)]
    return [{"train": sorted(set(cases) - set(of_fold)), "val": of_fold} for of_fold in validated]


def check_unused(preprocessed: Path, results: Path, split: Sequence[Mapping[str, Sequence[str]]]) -> None:
    """Check that no training has used another split.

    Args:
        preprocessed, results: folders of the dataset.

    Raises:
        XModalError: if a training used another split.
    """
    file = preprocessed / "splits_final.json"
    used_by = next(trained_folds(results), None)
    if used_by is not None and read_split(file) != split:
        raise XModalError(
            f"{used_by} was trained on the split in {file}, and --group-by makes another one: move the results away, "
            "or go on without --group-by."
        )


def read_split(file: Path) -> list[dict[str, list[str]]] | None:
    """Read a split; return None if there is no file.

    Raises:
        XModalError: for a file that holds no split.
    """
    if not file.is_file():
        return None
    return read_split_file(file)


def write_grouped_split(
    preprocessed: Path, results: Path, subjects: Mapping[str, str], patterns: Mapping[str, str] | None = None
) -> bool:
    """Write `splits_final.json` and the subjects; keep an earlier split as `splits_final_replaced.json`.

    Args:
        preprocessed, results: folders of the dataset.
        patterns: see `grouped_split`.

    Returns:
        False if that very split was there.

    Raises:
        XModalError: see `check_unused`.
    """
    file, split = preprocessed / "splits_final.json", grouped_split(subjects, patterns=patterns)
    check_unused(preprocessed, results, split)
    before = read_split(file)
    if before != split:
        if before is not None:
            file.replace(file.with_name("splits_final_replaced.json"))
        write_json(split, file)
    write_json(dict(subjects), preprocessed / GROUPS_FILE)
    return before != split


def tell_of_shared_subjects(split: Split, folds: Sequence[int | str], file: Path) -> None:
    """Remark on folds that validate on subjects which they train on, by the groups that were noted beside the split.

    Args:
        folds: that are to be trained.
        file: of the split.
    """
    groups_file = file.with_name(GROUPS_FILE)
    if not groups_file.is_file():
        return
    try:
        groups = dict(read_json(groups_file))
    except (ValueError, TypeError):  # a comparison, which needs it, says so
        return
    for number in folds:
        if number == "all" or int(number) >= len(split):
            continue
        train, val = ({groups.get(case, case) for case in split[int(number)][part]} for part in ("train", "val"))
        if shared := sorted(train & val):
            others = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            remark(
                f"{file}: fold {number} validates on cases of {shared[0]}{others}, on others of which it trains, as "
                f"{groups_file.name} has it: its results say little about new subjects."
            )


def trained_folds(results: Path) -> Iterator[Path]:
    """Yield the folders of folds in which a training left something, without `fold_all`: it knows no split."""
    for folder in sorted(results.glob("*/fold_*")):
        left = any(any(folder.glob(name)) for name in ("checkpoint_*", "training_log_*.txt", "validation/summary.json"))
        if folder.name != "fold_all" and left:
            yield folder
