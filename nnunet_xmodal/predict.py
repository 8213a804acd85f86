"""Predict with any model: find it, make its predictor, check, load, predict."""

from pathlib import Path

from nnunet_xmodal import discovery
from nnunet_xmodal.files.claim import claimed
from nnunet_xmodal.files.folders import check_apart, check_input_folder, check_output_folder
from nnunet_xmodal.files.remarks import repeated_remarks
from nnunet_xmodal.files.trust import trusting
from nnunet_xmodal.files.trusted_names import trainer_called
from nnunet_xmodal.prediction.guarded_predictor import GuardedPredictor
from nnunet_xmodal.prediction.model_place import opened_model
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor


@repeated_remarks()
def predict(request: PredictionRequest) -> None:
    """Check the model, then predict every case of `request.images`.

    Raises:
        XModalError: before anything is written, for a missing model, fold or device, for a model that could run code
            of whoever made it, and for faulty images.
    """
    discovery.register()
    check_output_folder(request.output)
    check_apart(request.output, request.folders_read)
    with (
        trusting(request.trust),
        claimed(request.output, request.part),
        opened_model(request) as (named, model),
    ):
        predict_cases(named, model)


def predict_cases(request: PredictionRequest, model: Path, file_ending: str | None = None) -> None:
    """Predict every case of `request.images`, of which the output is claimed.

    Args:
        request: with every name of its model.
        model: its folder.
        file_ending: of the images; None for that of the training images.

    Raises:
        XModalError: see `predict`.
    """
    predictor = predictor_class(request.trainer).from_request(request)
    check_input_folder(request.images)
    predictor.prepare(request, model)
    predictor.load(request, model)
    if file_ending is not None:
        predictor.dataset_json = {**predictor.dataset_json, "file_ending": file_ending}
    predictor.follow_axes(request, model)
    predictor.predict_folder(request)


def predictor_class(trainer_name: str) -> type[GuardedPredictor]:
    """Return the predictor of a trainer's models, nnU-Net's for trainers from elsewhere."""
    trainer = trainer_called(trainer_name)
    return getattr(trainer, "predictor_class", SegmentationPredictor)
