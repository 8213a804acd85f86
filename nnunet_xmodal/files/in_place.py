"""Find files in `nnUNet_preprocessed` that were cut off, since nnU-Net writes in place, and have them made again."""

import filecmp
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.complete import is_complete

_CLOSING = ("}", "]")


def is_cut_json(file: Path) -> bool:
    """Return whether a file is the beginning of JSON, or nothing but zeros; not a mistake within a whole file."""
    try:
        text = file.read_text(encoding="utf-8").rstrip("\0 \t\r\n")
        json.loads(text)
    except json.JSONDecodeError as error:
        return not text.endswith(_CLOSING) or error.pos >= len(text)
    except UnicodeDecodeError:  # cut within a letter, or no text at all
        return True
    return not text.endswith(_CLOSING)


def discard_cut_fingerprint(folder: Path) -> None:
    """Delete `dataset_fingerprint.json` of a preprocessed dataset if it cannot be read: nnU-Net makes it again.

    nnU-Net would die of it, or with the next version of its planner use half of it.
    """
    _discard_if(folder / "dataset_fingerprint.json", lambda file: not is_complete(file))


def discard_cut_plans(file: Path) -> None:
    """Delete plans that are cut off, of which nnU-Net would keep the configurations that it does not plan itself.

    Raises:
        XModalError: for plans that are whole and no JSON: somebody has worked on them.
    """
    _discard_if(file, is_cut_json)
    if file.is_file() and not is_complete(file):
        raise XModalError(f"{file} is not valid JSON: correct it, or delete it to plan anew.")


def discard_cut_split(folder: Path, raw: Path) -> None:
    """Delete a `splits_final.json` that is cut off if the raw dataset has it as well: nnU-Net copies it again."""
    if (raw / "splits_final.json").is_file():
        _discard_if(folder / "splits_final.json", is_cut_json)


def discard_other_labels(labels: Mapping[str, Path], folder: Path, file_ending: str) -> None:
    """Delete the label maps in `gt_segmentations` that are not those of the raw dataset: nnU-Net copies them again.

    By itself it copies newer files only, and a copy that was cut off is newer than what it was made from.

    Args:
        labels: case → label map of the raw dataset.
    """
    for case, label in labels.items():
        copy = folder / "gt_segmentations" / f"{case}{file_ending}"
        _discard_if(copy, partial(_differ, label))


def _differ(one: Path, other: Path) -> bool:
    return not filecmp.cmp(one, other, shallow=False)


def _discard_if(file: Path, is_bad: Callable[[Path], bool]) -> None:
    if file.is_file() and is_bad(file):
        print(f"{file} is cut off or damaged: it is made again.")
        file.unlink()


def check_whole(files: Iterable[Path], way_out: str) -> None:
    """Check that files are there to their last byte.

    Args:
        way_out: what to do if not, behind a colon.

    Raises:
        XModalError: for the first that is not; says how many others there are.
    """
    bad = [file for file in files if not is_complete(file)]
    if bad:
        others = f" ({len(bad) - 1} other files are, too)" if len(bad) > 1 else ""
        raise XModalError(f"{bad[0]} is missing, cut off or damaged{others}: {way_out}.")


def preprocessed_files(folder: Path, cases: Sequence[str]) -> list[Path]:
    """Name what nnU-Net keeps of preprocessed cases, whichever of its formats it is.

    Args:
        folder: `nnUNet_preprocessed/DATASET/<data_identifier>`.
    """
    if any((folder / f"{case}.npz").is_file() for case in cases):
        return [folder / f"{case}{ending}" for case in cases for ending in (".npz", ".pkl")]
    return [folder / f"{case}{ending}" for case in cases for ending in (".b2nd", "_seg.b2nd", ".pkl")]
