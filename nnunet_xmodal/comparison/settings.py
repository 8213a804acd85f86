"""What a comparison is asked to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.errors import XModalError


@dataclass(frozen=True)
class ComparisonSettings:
    """
    Attributes:
        output: folder of the report; its `cache/` keeps the metrics of each case.
        dataset: name or ID, with `configurations`, `trainers`, `plans` and `folds` as nnU-Net knows them; every
            combination is a model.
        folders: predictions from elsewhere, `FOLDER` or `NAME=FOLDER`.
        references: label maps, by default those of the dataset.
        dataset_json: names labels and file ending where only folders are compared.
        empty: a rule of `empty_labels.py`.
        nsd_tolerance_mm, lesion_iou: see `MetricSettings`.
        detection: labels whose lesions are detected by probability.
        group_by: see `datasets/grouped_split.py`; by default the groups that the folds were made of.
        allow_missing: go on with the cases that all models have in the same fold.
        overlays: how many cases are drawn at most.
        processes: cases that are computed at once.

    Raises:
        XModalError: for fewer than no overlays.
    """

    output: Path
    dataset: str | None = None
    configurations: Sequence[str] = ()
    trainers: Sequence[str] = ()
    plans: Sequence[str] = ("nnUNetPlans",)
    folds: Sequence[int | str] = (0, 1, 2, 3, 4)
    folders: Sequence[str] = ()
    references: Path | None = None
    dataset_json: Path | None = None
    empty: str = "nan"
    nsd_tolerance_mm: float = 1.0
    lesion_iou: float = 0.1
    detection: Sequence[str] = ()
    group_by: str | None = None
    allow_missing: bool = False
    overlays: int = 6
    processes: int = 1

    def __post_init__(self) -> None:
        if self.overlays < 0:
            raise XModalError(f"--overlays {self.overlays}: give a number of cases to draw, or 0.")
