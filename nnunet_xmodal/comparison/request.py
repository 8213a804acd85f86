"""What a comparison can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_xmodal.catalogue.groups import expanded
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.empty_rules import EMPTY_RULES
from nnunet_xmodal.files.environment import default_processes

BY = ("presence",)
"""What cases can be sorted by."""


@dataclass(frozen=True)
class ComparisonRequest:
    """Describe which results are compared, and how; see `comparison.run.compare`.

    Trained models are named by `dataset`, `configurations` and `trainers`, predictions from elsewhere by `folders`;
    both can stand side by side.

    Attributes:
        output: folder of the report; its `cache/` keeps the metrics of each case.
        dataset: name or ID.
        configurations: of the plans, for example `("2d", "3d_fullres")`.
        trainers: class names, or groups of them like `@fusion`, see `catalogue.groups`; every combination with
            configurations and plans is a model.
        plans: names.
        folds: numbers, or "all".
        folders: predictions from elsewhere, `FOLDER` or `NAME=FOLDER`.
        references: folder of label maps; None for those of the dataset.
        dataset_json: names labels and file ending where only folders are compared; None looks in the first folder and
            beside the references.
        empty: rule for empty labels, `nan` or `brats`.
        nsd_tolerance_mm: of the normalised surface distance, in mm.
        lesion_iou: from which lesions match, 0 to 1.
        detection: labels whose lesions are detected by probability.
        calibration: also ECE, Brier score and reliability diagrams, from probabilities.
        temperature: also fit a temperature per trained model on its validation cases, and store it with the model.
        group_by: how cases belong to subjects, see CrossvalRequest; None for the groups that the folds were made of.
        by: "presence" for means of the cases that have everything and of those that lack one channel or another; None
            for all cases together alone.
        allow_missing: go on with the cases that all models have in the same fold.
        overlays: how many cases are drawn at most.
        viewer: also write a page per drawn case that shows it in the browser, see `viewing`.
        processes: cases that are computed at once; by default `nnUNet_def_n_proc`, else the number of cores, at most 8.

    Raises:
        XModalError: for fewer than no overlays, no process, an unknown rule, and temperatures without calibration.
    """

    output: Path
    dataset: str | int | None = None
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
    calibration: bool = False
    temperature: bool = False
    group_by: str | None = None
    by: str | None = None
    allow_missing: bool = False
    overlays: int = 6
    viewer: bool = False
    processes: int = field(default_factory=default_processes)

    def __post_init__(self) -> None:
        object.__setattr__(self, "trainers", expanded(self.trainers))  # frozen
        if self.overlays < 0:
            raise XModalError(f"--overlays {self.overlays}: give a number of cases to draw, or 0.")
        if self.viewer and not self.overlays:
            raise XModalError("--viewer shows the cases that are drawn: leave --overlays 0 out.")
        if self.processes < 1:
            raise XModalError(f"-np {self.processes} is not a positive number.")
        if self.by not in (None, *BY):
            raise XModalError(f"--by {self.by} is unknown: take {' or '.join(BY)}.")
        if self.temperature and not self.calibration:
            raise XModalError("--temperature is told by calibration: add --calibration.")
        if self.empty not in EMPTY_RULES:
            raise XModalError(f"--empty {self.empty} is unknown: take one of {', '.join(EMPTY_RULES)}.")
