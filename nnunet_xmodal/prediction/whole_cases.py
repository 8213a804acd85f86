"""Predict cases of which every channel is there, as nnU-Net predicts them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_xmodal.datasets.cases import Case, label_values
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction.finished import remaining_cases, segmentation_files
from nnunet_xmodal.prediction.guarded_predictor import GuardedPredictor
from nnunet_xmodal.prediction.request import Case as AnyCase
from nnunet_xmodal.prediction.request import PredictionRequest


def cases_to_segment(
    cases: Sequence[AnyCase],
    request: PredictionRequest,
    dataset_json: dict,
    beside: Callable[[Path], Sequence[Path]] = lambda case: (),
) -> list[AnyCase]:
    """Select this part's cases and, with `continue_prediction`, skip finished ones.

    Args:
        beside: folder and name of a case → files that belong to it beside its segmentation.

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
            cases,
            lambda case: [
                *segmentation_files(output / case.name, ending, request.save_probabilities),
                *beside(output / case.name),
            ],
        )
    return cases


def with_previous_stage(cases: Sequence[Case], request: PredictionRequest, dataset_json: dict) -> list[Case]:
    """Return the cases with the label maps that a cascade's first stage has predicted of them, to be checked as such.

    They lie on the images' grids and hold labels of dataset.json, or the second stage reads something else than it was
    trained on.
    """
    if request.previous_stage is None:
        return list(cases)
    folder, labels = Path(request.previous_stage), label_values(dataset_json)
    ending = dataset_json["file_ending"]
    return [replace(case, label=folder / f"{case.name}{ending}", labels=labels) for case in cases]


def check_and_predict(
    predictor: GuardedPredictor,
    cases: Sequence[Case],
    request: PredictionRequest,
    checked: Callable[[], None] = lambda: None,
    probabilities: bool = False,
) -> None:
    """Check every image of the cases and what a first stage has predicted of them, then predict them.

    Args:
        checked: called between the two, for a look at what belongs to the cases.
        probabilities: are summed beside the logits.

    Raises:
        XModalError: before anything is written, for the first faulty case.
    """
    if predictor.memory_limit is not None:
        predictor.memory_limit.check(cases, predictor, request.save_probabilities, probabilities)
    doing = f"Checking {len(cases)} cases"
    checkable = with_previous_stage(cases, request, predictor.dataset_json)
    check_cases(checkable, predictor.dataset_json, request.checking_processes, request.progress, doing=doing)
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
