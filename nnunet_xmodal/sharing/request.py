"""What the export of a model can be asked for."""

from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction.request import PredictionRequest

LICENCE, USE = "licence", "intended_use"


@dataclass(frozen=True)
class ExportRequest:
    """Name a trained model, the zip to write, and what the files do not say; see `sharing.export.export`.

    Attributes:
        output: the zip.
        model: which one, as a prediction names it; `images` and `output` there mean nothing.
        licence: under which it may be used, e.g. an SPDX name.
        intended_use: what it is for, and what it is not for.
        data: what it was trained on: where from, how many patients, scanners, who labelled.
        contact: whom to ask.
        scores: folder of a report of `nnUNetXModal_compare`; None for the validation of the folds.
        scored_as: the model's name in that report; "" for the only one, or the trainer's.
        overwrite: replace the zip.

    Raises:
        XModalError: for an output that is no zip.
    """

    output: Path
    model: PredictionRequest
    licence: str = ""
    intended_use: str = ""
    data: str = ""
    contact: str = ""
    scores: Path | None = None
    scored_as: str = ""
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.output.suffix.lower() != ".zip":
            raise XModalError(f"-o {self.output} does not end in .zip: a model is exported into one.")
