"""What an explanation can be asked for; the Python interface of `nnUNetXModal_explain`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction.request import PredictionRequest

SHAPLEY, GRADCAM, ATTENTION = WHAT = ("shapley", "gradcam", "attention")


@dataclass(frozen=True)
class ExplanationRequest:
    """Describe what is to be told about predictions of a segmentation model.

    Attributes:
        prediction: images, output and model; `output` gets the explanations.
        what: of `WHAT`.
        labels: names of dataset.json; all of them if empty.
        of: "streams" or "channels", among which Shapley values share out, or groups of channels, `("T1+T1c", "T2")`;
            empty for streams where the model has some.
        references: folder of label maps `<case><ending>`, for Shapley values of the Dice; None for none.
        levels: of the network, from 1 (fine), that Grad-CAM looks at.

    Raises:
        XModalError: for nothing to explain, and for words and levels that there are not.
    """

    prediction: PredictionRequest
    what: Sequence[str] = (SHAPLEY,)
    labels: Sequence[str] = ()
    of: Sequence[str] = ()
    references: Path | None = None
    levels: Sequence[int] = (2,)

    def __post_init__(self) -> None:
        unknown = [word for word in self.what if word not in WHAT]
        if unknown or not self.what:
            raise XModalError(f"--what {' '.join(unknown) or 'is empty'}: take from {', '.join(WHAT)}.")
        if isinstance(self.of, str):
            raise XModalError(f"of is a sequence of words: write ({self.of!r},).")
        for level in self.levels:
            if level < 1:
                raise XModalError(f"--level {level}: levels count from 1, the finest.")
