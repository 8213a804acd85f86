"""Options of requests for a few-shot segmentation."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from nnunet_xmodal.prediction.options import option

_few_shot = partial(option, group="few-shot models")


@dataclass(frozen=True)
class FewShotOptions:
    """Options of few-shot models; None stands for "not given"."""

    support: str | None = _few_shot(
        "dataset.json, imagesTr and labelsTr of cases whose labels are to be segmented, seen in training or not "
        "(default: the support slices that the model keeps from its training cases)",
        metavar="FOLDER",
    )
    match: Literal["position", "best"] | None = _few_shot(
        "which support slices answer for a slice: those from the nearest relative position in their scans, or the best "
        "of all, as in nnUNetv2_predict (default: position)",
        choices=["position", "best"],
    )
    extents: str | None = _few_shot(
        "table with the columns case, label, first and last: between which slices of its file, counted from 0, an "
        "organ lies; it is looked for there alone, by the support slices from its own relative place",
        metavar="CSV",
    )
    largest_component: bool | None = _few_shot("keep of every label the largest piece that hangs together", flag=True)
