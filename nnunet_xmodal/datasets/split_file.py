"""splits_final.json: whether it is a split, and one of the cases that there are."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.in_place import is_cut_json

Split = Sequence[Mapping[str, Sequence[str]]]
"""Per fold the names of its training and validation cases, under "train" and "val"."""

_ENDINGS = (".b2nd", ".npz", ".zarr")  # of nnU-Net's preprocessed cases


def read_split_file(file: Path) -> list[dict[str, list[str]]]:
    """Read a split in nnU-Net's format.

    Raises:
        XModalError: for a file that cannot be read in full or is no list of folds with lists of names.
    """
    way_out = "delete it, and nnU-Net's own is written again, or correct it"
    try:
        split = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise XModalError(f"{file} is no split: {way_out}; it cannot be read in full ({error}).") from error
    if isinstance(split, dict) and {"train", "val"} <= set(split):
        raise XModalError(f"{file} is no split but a single fold: put it in brackets, [{{…}}].")
    if not isinstance(split, list) or not split:
        raise XModalError(f"{file} is no split: {way_out}; it has to be a list of folds.")
    for number, fold in enumerate(split):
        for part in ("train", "val"):
            names = fold.get(part) if isinstance(fold, dict) else None
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise XModalError(f'{file} is no split: {way_out}; fold {number} has no list of names "{part}".')
    return split


def check_same_split(preprocessed: Path, raw: Path) -> None:
    """Check that a preprocessed dataset divides its cases as the raw one says: nnU-Net stops planning otherwise.

    Raises:
        XModalError: if the preprocessed dataset's folds lack or change one of the raw's, and for a file of the raw
            dataset that is no split.
    """
    wanted, found = raw / "splits_final.json", preprocessed / "splits_final.json"
    if not wanted.is_file() or not found.is_file() or is_cut_json(found):
        return
    theirs, ours = (
        [{part: set(fold[part]) for part in ("train", "val")} for fold in read_split_file(file)]
        for file in (wanted, found)
    )
    if ours[: len(theirs)] != theirs:
        raise XModalError(
            f"{found} divides the cases otherwise than {wanted}: delete the first to train by the second, or copy it "
            "there to go on with it."
        )


def known_cases(folders: Sequence[Path]) -> dict[Path, set[str]]:
    """Return the names of the preprocessed cases in every folder."""
    return {
        folder: {
            file.name.removesuffix(ending)
            for file in folder.iterdir()
            for ending in _ENDINGS
            if file.name.endswith(ending) and not file.name.endswith(f"_seg{ending}")
        }
        for folder in folders
    }


def check_split(split: Split, folds: Sequence[int | str], file: Path, known: Mapping[Path, set[str]]) -> None:
    """Check the folds that are to be trained, of which nnU-Net notices faults one job after the other, or never.

    Args:
        split: its folds may be fewer than those asked for.
        folds: numbers, and "all", which reads no split.
        file: where the split is, or would be.
        known: cases that each configuration has, see `known_cases`.

    Raises:
        XModalError: for a fold without training or validation cases, one that validates on cases that it trains on, a
            case that comes twice in a part, and a case that has not been preprocessed.
    """
    for number in folds:
        if number == "all" or int(number) >= len(split):
            continue
        fold = split[int(number)]
        for part, what in (("train", "trains on"), ("val", "validates on")):
            if not fold[part]:
                raise XModalError(f'{file}: fold {number} {what} no case: name some in its list "{part}".')
            twice = next((case for case in fold[part] if fold[part].count(case) > 1), None)
            if twice is not None:
                raise XModalError(f"{file}: fold {number} {what} {twice} twice: once is enough.")
        both = [case for case in fold["val"] if case in set(fold["train"])]
        if both:
            others = f" and {len(both) - 1} more" if len(both) > 1 else ""
            raise XModalError(
                f"{file}: fold {number} validates on {both[0]}{others}, on which it trains as well, so its results say "
                "nothing about new cases: take them out of one of its lists, or train -f all, which has no validation."
            )
        for folder, cases in known.items():
            _check_known([*fold["train"], *fold["val"]], cases, number, folder, file)


def _check_known(names: Sequence[str], cases: set[str], number: int | str, folder: Path, file: Path) -> None:
    unknown = [name for name in names if name not in cases]
    if not unknown or not cases:  # preprocessed by somebody else's class, in files of another kind
        return
    others = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    meant = next((case for case in sorted(cases, key=len, reverse=True) if unknown[0].startswith(case)), None)
    way_out = f"write {meant}" if meant else "correct the name, or preprocess the case"
    raise XModalError(f"{file}: fold {number} names {unknown[0]}{others}, which is no case in {folder}: {way_out}.")
