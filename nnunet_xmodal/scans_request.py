"""A prediction from scans as they are: what `nnUNetXModal_predict --scans` can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.prediction.request import PredictionRequest


@dataclass(frozen=True)
class ScansRequest:
    """Name scans and how they get onto one grid, and the prediction; see `predict_scans.predict_scans`.

    Attributes:
        prediction: model, output and settings; its `images` mean nothing.
        scans: as the input of `PreparationRequest`: a folder per patient, any tree, or a table.
        channels: `NAME=PATTERN` of each of the model's channels, in any order; names, or none, with a table.
        reference: channel whose grid all get, and on which the answer lies; None for the model's first.
        register: align every channel rigidly with the reference by mutual information.
        transform, landmarks: `NAME=PATTERN` of known alignments, as in `PreparationRequest`.
        dicom_seg: write a DICOM segmentation as well where the reference is a DICOM series.
    """

    prediction: PredictionRequest
    scans: Path
    channels: Sequence[str] = ()
    reference: str | None = None
    register: bool = False
    transform: Sequence[str] = ()
    landmarks: Sequence[str] = ()
    dicom_seg: bool = False
