"""nnU-Net's preprocessing of a list of cases, in processes or in this one."""

from collections.abc import Iterable

from nnunetv2.inference.data_iterators import PreprocessAdapter
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def preprocessed(
    predictor: nnUNetPredictor,
    images: list[list[str]],
    outputs: list[str],
    processes: int,
    previous_stage: list[str | None] | None = None,
) -> Iterable[dict]:
    """Preprocess cases for `predict_from_data_iterator`, from files in the order of the predictor's channels.

    Args:
        outputs: folder and name of each case.
        processes: that preprocess; with 0 this one does.
        previous_stage: label maps for the second stage of a cascade.
    """
    if previous_stage is None:
        previous_stage = [None] * len(images)
    if processes > 0:
        return predictor._internal_get_data_iterator_from_lists_of_filenames(images, previous_stage, outputs, processes)
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=predictor.verbose_preprocessing)
    return PreprocessAdapter(
        images,
        previous_stage,
        preprocessor,
        outputs,
        predictor.plans_manager,
        predictor.dataset_json,
        predictor.configuration_manager,
        num_threads_in_multithreaded=1,
    )
