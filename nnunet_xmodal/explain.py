"""Explain predictions of a segmentation model: which modality counted, and where the network looked."""

from dataclasses import replace

from nnunet_xmodal import discovery
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.claim import claimed
from nnunet_xmodal.files.folders import check_apart, check_input_folder, check_output_folder
from nnunet_xmodal.files.remarks import repeated_remarks
from nnunet_xmodal.files.trust import trusting
from nnunet_xmodal.predict import predictor_class
from nnunet_xmodal.prediction.attributions import captum_attr
from nnunet_xmodal.prediction.model_place import opened_model
from nnunet_xmodal.tasks.segmentation.attention_maps import check_has_attention_maps
from nnunet_xmodal.tasks.segmentation.explanation import Explanation
from nnunet_xmodal.tasks.segmentation.explanation_request import ATTENTION, GRADCAM, ExplanationRequest
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor


@repeated_remarks()
def explain(request: ExplanationRequest) -> None:
    """Check the model and the cases, then explain every case.

    Raises:
        XModalError: before anything is written, for a missing model, fold or device, a model that does not segment,
            labels and levels that it has not, missing references, and faulty images.
    """
    discovery.register()
    asked = request.prediction
    check_output_folder(asked.output)
    references = {} if request.references is None else {"--gt": request.references}
    check_apart(asked.output, {**asked.folders_read, **references})
    if GRADCAM in request.what:
        captum_attr("--what gradcam")
    with trusting(asked.trust), claimed(asked.output), opened_model(asked) as (named, model):
        kind = predictor_class(named.trainer)
        if not issubclass(kind, SegmentationPredictor):
            raise XModalError(f"models of {named.trainer} do not segment: nnUNetXModal_explain explains segmentations.")
        predictor = kind.from_request(named)
        check_input_folder(named.images)
        predictor.prepare(named, model)
        predictor.load(named, model)
        predictor.follow_axes(named, model)
        if ATTENTION in request.what:
            check_has_attention_maps(predictor)
        Explanation(predictor, replace(request, prediction=named)).run()
