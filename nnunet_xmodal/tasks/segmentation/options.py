"""Options of requests for a segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_xmodal.prediction.options import option

_LACKING, _ORGAN, _SURE = "cases that lack channels", "within an organ", "how sure a model is that segments"


@dataclass(frozen=True)
class OrganOptions:
    """Options of what takes place within an organ; None stands for "not given"."""

    roi: str | None = option(
        "Segmentation: masks <case>.nii.gz of any model, on any grid, that images are cropped to; predictions lie on "
        "the whole image.",
        metavar="FOLDER",
        group=_ORGAN,
    )
    roi_label: Sequence[int] | None = option(
        "segmentation: values of the organ in the masks (default: all from 0.5 on)",
        nargs="+",
        type=int,
        metavar="N",
        group=_ORGAN,
    )
    margin: float | None = option(
        "segmentation: around the organ on every side (default: as the training images were cropped, else 0)",
        type=float,
        metavar="MM",
        group=_ORGAN,
    )


@dataclass(frozen=True)
class SegmentationOptions(OrganOptions):
    """Options of models that segment; None stands for "not given"."""

    attention_maps: bool | None = option(
        "also write OUTPUT/attention_maps/<case>_stream<k>_level<m>.nii.gz of the cases that this call predicts; 1 is "
        "uniform attention",
        flag=True,
        group="models that segment",
    )
    uncertainty: bool | None = option(
        "also write OUTPUT/uncertainty/<case>_entropy.nii.gz, of the mean over folds and mirrored copies, and "
        "<case>_mutual_information.nii.gz, the folds' disagreement, and OUTPUT/uncertainty.csv with a forecast of each "
        "label's Dice",
        flag=True,
        group=_SURE,
    )
    temperature: bool | None = option(
        "divide logits by the temperature that nnUNetXModal_compare --temperature has stored with the model: the same "
        "labels, calibrated probabilities",
        flag=True,
        group=_SURE,
    )
    allow_missing: bool | None = option(
        "models that were trained with stream dropout: a stream is left out where any of its channels has no file; "
        "OUTPUT/missing.json tells of every case what was missing",
        flag=True,
        group=_LACKING,
    )
    impute: str | None = option(
        "model folder of nnUNetTrainerCMFTPaired (or another CMFT), whose folds -f make the channels that have no "
        "file; for any model that normalises by z-scores. With --allow_missing: of the cases of which it can",
        metavar="FOLDER",
        group=_LACKING,
    )
