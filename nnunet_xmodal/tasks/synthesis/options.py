"""Options of requests for synthetic images."""

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_xmodal.prediction.options import option


@dataclass(frozen=True)
class SynthesisOptions:
    """Options of models that make one modality from another; None stands for "not given"."""

    reference_intensities: Sequence[float] | None = option(
        "map normalised intensities to this mean and standard deviation (one pair for all made channels, or one for "
        "each)",
        nargs="+",
        type=float,
        metavar=("MEAN", "SD"),
        group="models that make images",
    )
