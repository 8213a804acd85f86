"""Cases that an interrupted prediction has left to do: a file that is cut off is not a finished one."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from nnunet_xmodal.files.complete import is_complete

Case = TypeVar("Case")


def remaining_cases(cases: Iterable[Case], files_of: Callable[[Case], Sequence[Path]]) -> list[Case]:
    """Select the cases of which a file is missing or cut off; says how many are cut off.

    Every existing file is read to its end, see `is_complete`.

    Args:
        files_of: what is written of a case.
    """
    remaining, cut = [], []
    for case in cases:
        unfinished = [file for file in files_of(case) if not is_complete(file)]
        cut += [file for file in unfinished if file.is_file()]
        if unfinished:
            remaining.append(case)
    if cut:
        others = f" and {len(cut) - 1} other files are" if len(cut) > 1 else " is"
        print(f"{cut[0]}{others} cut off or damaged: predicted again.")
    return remaining


def segmentation_files(case: Path, file_ending: str, save_probabilities: bool) -> list[Path]:
    """Name what nnU-Net writes of a segmented case.

    Args:
        case: folder and name.
    """
    endings = [file_ending, *((".npz", ".pkl") if save_probabilities else ())]
    beside = case.with_name(f"{case.name}.json")
    with_spacing = [beside] if file_ending.lower() in (".tif", ".tiff") and beside.is_file() else []
    return [*with_spacing, *(case.with_name(case.name + ending) for ending in endings)]
