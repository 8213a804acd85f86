"""The axes that a prediction follows: those that the model's dataset was turned to, or those of its training cases."""

from pathlib import Path

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.datasets.cases import files_by_channel
from nnunet_xmodal.datasets.stored_axes import (
    axes_of_cases,
    axes_of_model,
    most_common,
    recorded_axes,
    tell_of_other_axes,
)
from nnunet_xmodal.files.dataset_json import read_dataset_json
from nnunet_xmodal.files.model_files import read_model_dataset_json
from nnunet_xmodal.files.remarks import remark
from nnunet_xmodal.geometry.orientation import towards_lps
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.prediction.turning import turn_as_trained

ALWAYS, RECORDED, NEVER = "always", "recorded", "never"
"""When a predictor turns cases: wherever the training's axes are known, where the dataset was turned, or not at all.

A predictor says so in its attribute `turns`.
"""


def follow_axes_of_training(predictor: nnUNetPredictor, model: Path, request: PredictionRequest) -> None:
    """Turn cases as the model's training cases lay, where that is asked for; tell where it would be needed.

    Args:
        predictor: with its model.
        model: its folder.

    Raises:
        XModalError: for a folder of images that nothing can be predicted from.
    """
    plans, dataset_json = predictor.plans_manager.plans, predictor.dataset_json
    turns, support = predictor.turns, request.options.get("support")
    # the images may have another ending than the validations, in memory and from scanners
    wanted = axes_of_model(model, plans, read_model_dataset_json(model))
    if wanted is None and turns == ALWAYS and support:
        wanted = _axes_of_support(Path(support))
    channels = files_by_channel(request.images, dataset_json["file_ending"])
    images = {case: files[min(files)] for case, files in channels.items()}
    axes = axes_of_cases(images, plans.get("image_reader_writer"))
    if wanted is not None and (turns == ALWAYS or (turns == RECORDED and recorded_axes(dataset_json))):
        turn_as_trained(predictor, wanted)
        others = [case for case, code in axes.items() if code != wanted]
        if others:
            print(
                f"{len(others)} of {len(axes)} cases, for example {others[0]} ({axes[others[0]]}), are turned to "
                f"{wanted} for the model, and their results are turned back."
            )
        return
    if turns == ALWAYS and axes:
        remark(
            "it is not known along which axes the model's training cases were stored: slices are matched as they are "
            "stored; train anew, or give --support."
        )
    usual = wanted or most_common(axes)
    advice = f"turn them as the others are with nnUNetXModal_prepare --orientation {usual}"
    if turns != NEVER:
        advice += ", or train on a dataset that it has turned, whose models turn cases by themselves"
    tell_of_other_axes(axes, advice, wanted)


def _axes_of_support(folder: Path) -> str | None:
    """Return those of most of its cases, running to fixed ends of the patient, from which slices are counted."""
    try:
        dataset_json = read_dataset_json(folder / "dataset.json")
        files = files_by_channel(folder / "imagesTr", dataset_json["file_ending"])
    except (ValueError, KeyError):  # said by whoever reads the support
        return None
    reader = dataset_json.get("overwrite_image_reader_writer")
    usual = most_common(axes_of_cases({case: numbers[min(numbers)] for case, numbers in files.items()}, reader))
    return None if usual is None else towards_lps(usual)
