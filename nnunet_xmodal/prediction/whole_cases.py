"""Predict cases of which every channel is there, as nnU-Net predicts them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from nnunet_xmodal.datasets.checks import Case, check_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction.finished import remaining_cases, segmentation_files
from nnunet_xmodal.prediction.guarded_predictor import GuardedPredictor
from nnunet_xmodal.prediction.request import Case as AnyCase
from nnunet_xmodal.prediction.request import PredictionRequest


def cases_to_segment(cases: Sequence[AnyCase], request: PredictionRequest, dataset_json: dict) -> list[AnyCase]:
    """Select this part's cases and, with `continue_prediction`, skip finished ones.

    Raises:
        XModalError: for a case without its prediction of the previous stage.
    """
    cases = list(request.of_this_part(cases))
    ending = dataset_json["file_ending"]
    if request.previous_stage is not None:
        for case in cases:
            file = Path(request.previous_stage) / f"{case.name}{ending}"
            if not file.is_file():
                raise XModalError(f"{file} is missing: predict the previous stage of {case.name} first.")
    if request.continue_prediction:
        output = Path(request.output)
        return remaining_cases(
            cases, lambda case: segmentation_files(output / case.name, ending, request.save_probabilities)
        )
    return cases


def check_and_predict(
    predictor: GuardedPredictor,
    cases: Sequence[Case],
    request: PredictionRequest,
    checked: Callable[[], None] = lambda: None,
    probabilities: bool = False,
) -> None:
    """Check every image of the cases, then predict them.

    Args:
        checked: called between the two, for a look at what belongs to the cases.
        probabilities: are summed beside the logits.

    Raises:
        XModalError: before anything is written, for the first faulty case.
    """
    if predictor.memory_limit is not None:
        predictor.memory_limit.check(cases, predictor, request.save_probabilities, probabilities)
    doing = f"Checking {len(cases)} cases"
    check_cases(list(cases), predictor.dataset_json, request.checking_processes, request.progress, doing=doing)
    checked()
    predict_files(predictor, [[str(image) for image in case.images] for case in cases], request)


def predict_files(predictor: GuardedPredictor, files: list[list[str]], request: PredictionRequest) -> None:
    """Predict cases given by the files of their channels; without any, nnU-Net still writes what lies beside them."""
    Path(request.output).mkdir(parents=True, exist_ok=True)
    previous = None if request.previous_stage is None else str(request.previous_stage)
    common = {"save_probabilities": request.save_probabilities, "folder_with_segs_from_prev_stage": previous}
    if request.preprocessing_processes == 0 and request.export_processes == 0:
        predictor.predict_from_files_sequential(files, str(request.output), **common)
        return
    predictor.predict_from_files(
        files,
        str(request.output),
        num_processes_preprocessing=request.preprocessing_processes,
        num_processes_segmentation_export=request.export_processes,
        **common,
    )
