"""Whether the cases that a training will read lie in their folders, before loader workers find out."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from nnunet_xmodal.datasets.preprocessed_cases import CasesOnDisk
from nnunet_xmodal.errors import XModalError


class CasesOfStages(CasesOnDisk, Protocol):
    """Preprocessed cases in a folder, and where their labels from a cascade's first stage lie."""

    folder_with_segs_from_previous_stage: str | None

    @staticmethod
    def get_identifiers(folder: str) -> Sequence[str]:
        """Return the names of all cases in a folder."""


def check_files(datasets: Iterable[CasesOfStages], previous_stage: str | None) -> None:
    """Check that every case is preprocessed, and was predicted by the first stage where the training is the second.

    Args:
        datasets: of nnU-Net, those of training and validation.
        previous_stage: name of the first stage.

    Raises:
        XModalError: names the first case that lacks, and the folder.
    """
    for dataset in datasets:
        there = set(dataset.get_identifiers(dataset.source_folder))
        missing = sorted(set(dataset.identifiers) - there)
        if missing:
            raise XModalError(
                f"splits_final.json names {missing[0]}{_others(missing)}, and {dataset.source_folder} lacks them: "
                "preprocess again, or correct the split."
            )
        folder = dataset.folder_with_segs_from_previous_stage
        if folder is None:
            continue
        predicted = {file.stem for file in Path(folder).glob("*")}
        missing = sorted(set(dataset.identifiers) - predicted)
        if missing:
            raise XModalError(
                f"{folder} has no prediction by {previous_stage} of {missing[0]}{_others(missing)}: train "
                f"{previous_stage} on all folds first, or on the fold all; its validation writes them, also with --val."
            )


def _others(missing: Sequence[str]) -> str:
    return f" and {len(missing) - 1} more" if len(missing) > 1 else ""
