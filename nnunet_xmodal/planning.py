"""From a raw dataset to plans and preprocessed data, by nnU-Net's own functions."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor
from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiment_dataset,
    preprocess,
)
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.utilities.dataset_name_id_conversion import convert_id_to_dataset_name
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_xmodal.datasets.cases import Case, training_cases
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.datasets.foreground_check import check_some_foreground
from nnunet_xmodal.datasets.incomplete_cases import incomplete_training_cases, missing_by_name
from nnunet_xmodal.datasets.presence import MISSING_FILE, write_missing
from nnunet_xmodal.datasets.split_file import check_same_split
from nnunet_xmodal.datasets.stored_axes import axes_of_cases, most_common, tell_of_other_axes
from nnunet_xmodal.datasets.streams import Streams, describe_streams, streams_from_command_line, streams_of_dataset
from nnunet_xmodal.datasets.unlabelled import existing_files, partly_labelled_cases, write_empty_labels
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import explained_if_full, write_json
from nnunet_xmodal.files.claim import claimed
from nnunet_xmodal.files.dataset_json import read_dataset_json, read_plannable
from nnunet_xmodal.files.dataset_names import dataset_name
from nnunet_xmodal.files.environment import require_variables, with_a_loader
from nnunet_xmodal.files.in_place import (
    discard_cut_fingerprint,
    discard_cut_plans,
    discard_cut_split,
    discard_other_labels,
)
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.plans_table import plans_table
from nnunet_xmodal.files.remarks import repeated_remarks
from nnunet_xmodal.files.stand_ins import json_written_whole
from nnunet_xmodal.planners import planner_class
from nnunet_xmodal.planners.own_planner import OwnPlanner, check_options, declared_by
from nnunet_xmodal.planners.present_channels import preprocessing_present_channels
from nnunet_xmodal.planners.present_fingerprint import extract_present_fingerprint
from nnunet_xmodal.planners.sized_planning import can_be_sized, check_sizes, sized
from nnunet_xmodal.planning_request import PlanRequest

_DEFAULT_PROCESSES = {"2d": 8, "3d_lowres": 8}
_OTHER_PROCESSES = 4


@repeated_remarks()
def plan_and_preprocess(request: PlanRequest) -> None:
    """Check everything that nnU-Net would only notice later, then do what `nnUNetv2_plan_and_preprocess` does.

    Raises:
        XModalError: for a variable that is not set, an unknown dataset or planner, impossible streams, options that the
            planner does not take, faulty files, and with `unlabelled` if no case is labelled; nothing is written then.
    """
    require_variables("nnUNet_raw", "nnUNet_preprocessed")
    request = replace(request, datasets=tuple(dict.fromkeys(request.datasets)))
    check_planner(request)
    checked = {dataset: _checked(dataset, request) for dataset in request.datasets}
    with ExitStack() as outputs:
        for dataset in request.datasets:
            outputs.enter_context(claimed(Path(nnUNet_preprocessed) / convert_id_to_dataset_name(dataset)))
        if request.unlabelled:
            for dataset in request.datasets:
                _complete_labels(dataset)
        outputs.enter_context(json_written_whole(fingerprint_extractor, default_experiment_planner))
        for dataset in request.datasets:
            outputs.enter_context(explained_if_full(_without_cut_files(dataset)))
        for dataset, (cases, _) in checked.items():
            _write_missing(dataset, cases)
        _extract_fingerprints(request, {dataset: cases for dataset, (cases, _) in checked.items()})
        print("Experiment planning...")
        plans_names = [_write_plans(dataset, request, streams) for dataset, (_, streams) in checked.items()]
        if request.preprocess:
            _preprocess(request, plans_names[-1])


def check_planner(request: PlanRequest) -> None:
    """Check that the planner exists and takes the options that are given; reads no file.

    Raises:
        XModalError: for what does not go together.
    """
    planner = planner_class(request.planner)
    check_options(request.planner, vars(request))
    if request.unlabelled and declared_by(planner).needs_every_label:
        raise XModalError(
            f"{request.planner} needs a label in every case: leave --unlabelled out, and unlabelled cases, too."
        )
    if request.allow_missing:
        _check_takes_incomplete(request, planner)
    check_sizes(request.patch, request.base_width)
    if request.patch is not None and len(request.patch) != 3 and not can_be_sized(planner):
        raise XModalError(f"--patch takes three numbers Z Y X for {request.planner}, and got {len(request.patch)}.")


def _check_takes_incomplete(request: PlanRequest, planner: type) -> None:
    if declared_by(planner).needs_every_channel:
        raise XModalError(f"{request.planner} needs every channel of every case: leave --allow_missing out.")
    usual = PlanRequest(request.datasets)
    for flag, field in (
        ("--unlabelled", "unlabelled"),
        ("--verify_dataset_integrity", "verify_dataset_integrity"),
        ("-fpe", "fingerprint_extractor"),
        ("-preprocessor_name", "preprocessor"),
    ):
        if getattr(request, field) != getattr(usual, field):
            raise XModalError(f"{flag} does not go together with --allow_missing: leave one of them out.")


def planner_with_options(request: PlanRequest, streams: Streams | None) -> Callable[..., ExperimentPlanner]:
    """Return the planner as nnU-Net constructs it, with the options that are given.

    Args:
        request: what is planned.
        streams: of the dataset, where any are given; planners of nnU-Net's own do without.
    """
    planner = planner_class(request.planner)
    options = _given_options(request, declared_by(planner)) | ({} if streams is None else {"streams": streams})
    if issubclass(planner, OwnPlanner):
        return partial(planner, **{name: value for name, value in options.items() if name in planner.own_options})
    sizes = {name: value for name, value in options.items() if name != "streams"}
    if not sizes:
        return planner
    with_sizes: Callable[..., ExperimentPlanner] = sized(planner)
    return partial(with_sizes, **sizes)


def _given_options(request: PlanRequest, declared: type[OwnPlanner]) -> dict[str, Any]:
    """Return those of the planner's own options that are not left to it, but for streams as words."""
    values = {name: getattr(request, name) for name in declared.own_options if name != "streams"}
    return {name: value for name, value in values.items() if value is not None}


def _checked(dataset: int, request: PlanRequest) -> tuple[list[Case], Streams | None]:
    """Check a raw dataset; return its training cases, and its streams if the request or dataset.json gives any."""
    folder = Path(nnUNet_raw) / dataset_name(dataset, takes_names=False)
    dataset_json = read_plannable(folder / "dataset.json")
    declared = declared_by(planner_class(request.planner))
    names = declared.input_names(dataset_json)
    if request.streams is None:
        streams = streams_of_dataset(dataset_json, names)
    else:
        streams = streams_from_command_line(request.streams, names)
    all_streams = streams or [[index] for index in range(len(names))]
    if request.allow_missing:
        cases = incomplete_training_cases(folder, dataset_json, all_streams)
    else:
        cases = (partly_labelled_cases if request.unlabelled else training_cases)(folder, dataset_json)
    check_cases(existing_files(cases), dataset_json, request.fingerprint_processes, progress=request.progress)
    check_some_foreground(existing_files(cases), dataset_json)
    _tell_of_axes(folder, cases, dataset_json)
    declared.check_raw(dataset_json, cases, **_given_options(request, declared))
    check_same_split(Path(nnUNet_preprocessed) / folder.name, folder)
    print("Streams:", describe_streams(all_streams, names))
    return cases, streams


def _tell_of_axes(folder: Path, cases: list[Case], dataset_json: dict) -> None:
    axes = axes_of_cases(
        {case.name: case.images[0] for case in cases}, dataset_json.get("overwrite_image_reader_writer")
    )
    name = folder.name.split("_", 1)[-1]
    tell_of_other_axes(
        axes,
        f"nnUNetXModal_prepare -i {folder} -o DatasetNNN_{name} --orientation {most_common(axes)} writes a dataset of "
        "which all are stored alike, with another number for NNN",
    )


def _complete_labels(dataset: int) -> None:
    """Give every unlabelled case of a checked raw dataset an empty label, and print how many there were."""
    folder = Path(nnUNet_raw) / convert_id_to_dataset_name(dataset)
    dataset_json = read_dataset_json(folder / "dataset.json")
    cases = partly_labelled_cases(folder, dataset_json)
    written = write_empty_labels(cases, dataset_json)
    print(f"{folder.name}: {written} of {len(cases)} training cases had no label file and were given an empty one.")


def _write_missing(dataset: int, cases: list[Case]) -> None:
    """Write which channels cases lack into the preprocessed dataset, and print of how many."""
    name = convert_id_to_dataset_name(dataset)
    missing = missing_by_name(cases, read_dataset_json(Path(nnUNet_raw) / name / "dataset.json"))
    folder = Path(nnUNet_preprocessed) / name
    write_missing(missing, folder)
    if missing:
        print(f"{name}: {len(missing)} of {len(cases)} cases are incomplete, {folder / MISSING_FILE} says what lacks.")


def _without_cut_files(dataset: int) -> Path:
    """Discard a fingerprint and a split that are cut off; return the folder of the preprocessed dataset."""
    name = convert_id_to_dataset_name(dataset)
    folder = Path(nnUNet_preprocessed) / name
    discard_cut_fingerprint(folder)
    discard_cut_split(folder, Path(nnUNet_raw) / name)
    return folder


def _extract_fingerprints(request: PlanRequest, cases: Mapping[int, list[Case]]) -> None:
    print("Fingerprint extraction...")
    if request.allow_missing:
        for dataset in request.datasets:
            name = convert_id_to_dataset_name(dataset)
            print(name)
            extract_present_fingerprint(
                cases[dataset],
                read_dataset_json(Path(nnUNet_raw) / name / "dataset.json"),
                Path(nnUNet_preprocessed) / name,
                request.fingerprint_processes,
                request.recompute_fingerprint,
                request.progress,
            )
        return
    extract_fingerprints(
        list(request.datasets),
        request.fingerprint_extractor,
        request.fingerprint_processes,
        request.verify_dataset_integrity,
        request.recompute_fingerprint,
        request.verbose,
        show_progress_bar=request.progress,
    )


def _write_plans(dataset: int, request: PlanRequest, streams: Streams | None) -> str:
    """Write the plans of one dataset; return their name."""
    with with_a_loader():
        _, plans_name = plan_experiment_dataset(
            dataset,
            partial(_without_cut_plans, planner_with_options(request, streams)),
            request.gpu_memory_gb,
            request.preprocessor,
            request.target_spacing_mm,
            request.plans_name,
        )
    if streams is not None and not issubclass(planner_class(request.planner), OwnPlanner):
        _add_streams(dataset, plans_name, streams)
    file = Path(nnUNet_preprocessed) / convert_id_to_dataset_name(dataset) / f"{plans_name}.json"
    print(f"{file}:\n{plans_table(read_json(file))}")
    return plans_name


def _without_cut_plans(planner: Callable[..., ExperimentPlanner], *args: Any, **kwargs: Any) -> ExperimentPlanner:
    """Return a planner that finds no plans which are cut off where it writes its own."""
    made = planner(*args, **kwargs)
    discard_cut_plans(Path(nnUNet_preprocessed) / made.dataset_name / f"{made.plans_identifier}.json")
    return made


def _add_streams(dataset: int, plans_name: str, streams: Streams) -> None:
    file = Path(nnUNet_preprocessed) / convert_id_to_dataset_name(dataset) / f"{plans_name}.json"
    plans = read_json(file)
    plans["xmodal"] = {**plans.get("xmodal", {}), "streams": streams}
    write_json(plans, file)


def _preprocess(request: PlanRequest, plans_name: str) -> None:
    print("Preprocessing...")
    for dataset in request.datasets:
        _discard_differing_labels(dataset)
    usual = [_DEFAULT_PROCESSES.get(name, _OTHER_PROCESSES) for name in request.configurations]
    with preprocessing_present_channels() if request.allow_missing else nullcontext():
        preprocess(
            list(request.datasets),
            plans_name,
            list(request.configurations),
            list(request.preprocessing_processes or usual),
            request.verbose,
            show_progress_bar=request.progress,
        )


def _discard_differing_labels(dataset: int) -> None:
    name = convert_id_to_dataset_name(dataset)
    dataset_json = read_json(Path(nnUNet_raw) / name / "dataset.json")
    files = get_filenames_of_train_images_and_targets(str(Path(nnUNet_raw) / name), dataset_json)
    labels = {case: Path(of_case["label"]) for case, of_case in files.items()}
    discard_other_labels(labels, Path(nnUNet_preprocessed) / name, dataset_json["file_ending"])
