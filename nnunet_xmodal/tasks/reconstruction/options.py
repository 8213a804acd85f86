"""Options of requests for a reconstruction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nnunet_xmodal.prediction.options import option

WHOLE_MASK = "mask"
"""What `--reference_region` says for the mean of everything inside."""

_GROUP = "models that reconstruct images"


@dataclass(frozen=True)
class ReconstructionOptions:
    """Options of models that reconstruct; None stands for "not given"."""

    mask: str | None = option(
        "<case>.nii.gz, outside of which results are 0 (default: where the inputs are not 0)",
        metavar="FOLDER",
        group=_GROUP,
    )


@dataclass(frozen=True)
class SusceptibilityOptions(ReconstructionOptions):
    """Options of models that map susceptibility."""

    field_unit: Literal["ppm", "Hz", "rad"] | None = option(
        "of the field maps (default: the training's)", choices=["ppm", "Hz", "rad"], group=_GROUP
    )
    B0: float | None = option("strength of the main field, for Hz and rad", type=float, metavar="T", group=_GROUP)
    TE: float | None = option("echo time in seconds, for rad", type=float, metavar="S", group=_GROUP)
    b0_direction: Sequence[float] | None = option(
        "of the main field in physical (LPS) space (default: the training's, which is 0 0 1 unless planned otherwise)",
        nargs=3,
        type=float,
        metavar=("X", "Y", "Z"),
        group=_GROUP,
    )
    consistency: float | None = option(
        "weight of the network's map against the measured field, for a map that explains it: 0.01 leaves most to the "
        "field, 1 most to the network (default: the network's map as it is)",
        type=float,
        metavar="LAMBDA",
        group=_GROUP,
    )
    reference_region: str | None = option(
        f"<case>.nii.gz, regions from whose mean maps are counted, or '{WHOLE_MASK}' for the mean inside the mask "
        "(default: as the training's)",
        metavar="FOLDER",
        group=_GROUP,
    )
