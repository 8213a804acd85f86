"""What a preparation can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.environment import default_processes

SPLITS = ("Ts", "Tr")
"""Where cases without a label go: imagesTs or imagesTr."""


@dataclass(frozen=True)
class PreparationRequest:
    """Describe which scans become which raw dataset, and how; see `preparation.run.prepare`.

    What is None is left to the recipe, or to the default that the attribute names.

    Attributes:
        input: folder of a folder per patient or of any tree, or a CSV file with the columns case, channel, file and,
            where there are any, label, transform, landmarks; for `orientation` alone a raw dataset.
        output: name of the dataset in nnUNet_raw, `Dataset510_Prostate`.
        channels: `NAME=PATTERN` of each in the order of their numbers, for example `T2W=*t2w*`; names with a CSV file.
        recipe: name of a published dataset's, or a JSON file.
        reference: channel whose grid all get, or "label"; by default the first channel.
        label: pattern of the label maps.
        label_component: which volume of 4D label files counts, from 0.
        map: `OLD:NEW` values of label files.
        labels: `NAME=VALUE`, or `NAME=VALUE,VALUE` for a region, from large to small.
        streams: channels of each stream, `("T2W", "ADC+DWI")`.
        transform: `NAME=PATTERN` of a channel's known alignment, reference to channel point, LPS, in mm.
        landmarks: `NAME=PATTERN` of points of the same names in the reference and a channel.
        register: whether channels are aligned rigidly with the reference by mutual information.
        roi: name or value of a label to crop to, or a folder of masks.
        roi_label: values of the organ in these masks; by default all from 0.5 on.
        margin: around the region on every side, in mm; 0 by default.
        unlabelled: where cases without a label go: `Ts` (imagesTs, the default) or `Tr` (imagesTr).
        orientation: axes along which all cases are stored, for example `LPS`; None leaves them.
        allow_missing: whether cases may lack channels, as long as one stream of each is whole.
        processes: cases at once; by default `nnUNet_def_n_proc`, else the number of cores, at most 8.
        overwrite: whether all cases are prepared anew, and what is there is replaced.

    Raises:
        XModalError: for a negative margin, options of a region without one, no process, and an unknown place of
            unlabelled cases.
    """

    input: Path
    output: str
    channels: Sequence[str] | None = None
    recipe: str | None = None
    reference: str | None = None
    label: str | None = None
    label_component: int | None = None
    map: Sequence[str] | None = None
    labels: Sequence[str] | None = None
    streams: Sequence[str] | None = None
    transform: Sequence[str] | None = None
    landmarks: Sequence[str] | None = None
    register: bool = False
    roi: str | None = None
    roi_label: Sequence[int] | None = None
    margin: float | None = None
    unlabelled: str | None = None
    orientation: str | None = None
    allow_missing: bool = False
    processes: int = field(default_factory=default_processes)
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise XModalError(f"-np {self.processes} is not a positive number.")
        if self.unlabelled is not None and self.unlabelled not in SPLITS:
            raise XModalError(f"--unlabelled {self.unlabelled} is unknown: take one of {', '.join(SPLITS)}.")
        if self.label_component is not None and self.label_component < 0:
            raise XModalError(f"--label_component counts from 0, got {self.label_component}.")
        if self.margin is not None and not 0 <= self.margin < inf:
            raise XModalError(f"--margin takes millimetres from 0, got {self.margin:g}.")
        if self.margin is not None and self.roi is None:
            raise XModalError("--margin is the distance around the organ of --roi: give --roi as well.")
        if self.roi_label is not None and (self.roi is None or not Path(self.roi).is_dir()):
            raise XModalError("--roi_label says which values of masks are the organ: give their folder as --roi.")
