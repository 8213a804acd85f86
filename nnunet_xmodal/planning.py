"""From a raw dataset to plans and preprocessed data, by nnU-Net's own functions."""

import json
from argparse import Namespace
from functools import partial
from pathlib import Path

from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiment_dataset,
    preprocess,
)
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.utilities.dataset_name_id_conversion import convert_id_to_dataset_name

from nnunet_xmodal.data.atomic_files import write_json
from nnunet_xmodal.data.environment import require_variables
from nnunet_xmodal.data.foreground_check import check_some_foreground
from nnunet_xmodal.data.image_checks import Case, check_cases, training_cases
from nnunet_xmodal.data.stored_axes import axes_of_cases, most_common, tell_of_other_axes
from nnunet_xmodal.data.streams import (
    Streams,
    channel_names_of,
    describe_streams,
    streams_from_command_line,
    streams_of_dataset,
)
from nnunet_xmodal.data.unlabelled import existing_files, partly_labelled_cases, write_empty_labels
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dataset_json import read_dataset_json, read_plannable
from nnunet_xmodal.files.dataset_names import dataset_name
from nnunet_xmodal.files.remarks import repeated_remarks
from nnunet_xmodal.planners import PLANNERS, planner_class

_DEFAULT_PROCESSES = {"2d": 8, "3d_lowres": 8}
_OTHER_PROCESSES = 4
_LABELS_FOR_EVERY_CASE = ("RegistrationPlanner", "ReconstructionPlanner", "ReconstructionUNetPlanner")
_RECONSTRUCTION = ("patch", "field_unit", "B0", "TE", "b0_direction")


@repeated_remarks()
def plan_and_preprocess(args: Namespace) -> None:
    """What `nnUNetv2_plan_and_preprocess` does, after a look at everything that it would only notice later.

    Args:
        args: see `commands/plan_and_preprocess.py`.

    Raises:
        XModalError: for a variable that is not set, an unknown dataset or planner, impossible streams, options that the
            planner has not, faulty files, and with `--unlabelled` if no case is labelled; nothing is written then.
    """
    require_variables("nnUNet_raw", "nnUNet_preprocessed")
    planner = planner_class(args.pl)
    if args.overwrite_target_spacing is not None and len(args.overwrite_target_spacing) != 3:
        raise XModalError(f"-overwrite_target_spacing takes three numbers in mm, got {args.overwrite_target_spacing}.")
    own = getattr(planner, "own_options", ())  # what our planners take beside nnU-Net's arguments
    if args.iso_compute and "iso_compute" not in own:
        raise XModalError(
            f"--iso_compute narrows streams, which {args.pl} has not: take one of {_with_option('iso_compute')}."
        )
    if args.grid is not None and "grid" not in own:
        raise XModalError(f"--grid says nothing to {args.pl}: take one of {_with_option('grid')}.")
    if args.size is not None and "size" not in own:
        raise XModalError(f"--size says nothing to {args.pl}: take one of {_with_option('size')}.")
    if args.unlabelled and args.pl in _LABELS_FOR_EVERY_CASE:
        raise XModalError(f"{args.pl} needs a label in every case: leave --unlabelled out, and unlabelled cases, too.")
    for flag in _RECONSTRUCTION:
        if getattr(args, flag) is not None and flag not in own:
            raise XModalError(f"--{flag} says nothing to {args.pl}: take one of {_with_option(flag)}.")
    if args.streams and own and "streams" not in own:
        raise XModalError(f"--streams says nothing to {args.pl}, whose networks have none: leave it out.")
    streams = {dataset: _checked(dataset, planner, args) for dataset in args.d}

    if args.unlabelled:
        for dataset in args.d:
            _complete_labels(dataset)

    print("Fingerprint extraction...")
    extract_fingerprints(
        args.d,
        args.fpe,
        args.npfp,
        args.verify_dataset_integrity,
        args.clean,
        args.verbose,
        show_progress_bar=not args.no_pbar,
    )
    print("Experiment planning...")
    for dataset in args.d:
        chosen = {**vars(args), "streams": streams[dataset]}
        _, plans_name = plan_experiment_dataset(
            dataset,
            partial(planner, **{name: chosen[name] for name in own}),
            args.gpu_memory_target,
            args.preprocessor_name,
            args.overwrite_target_spacing,
            args.overwrite_plans_name,
        )
        if streams[dataset] is not None and not own:
            _write_streams(dataset, plans_name, streams[dataset])
    if not args.no_pp:
        print("Preprocessing...")
        processes = args.np or [_DEFAULT_PROCESSES.get(c, _OTHER_PROCESSES) for c in args.c]
        preprocess(args.d, plans_name, args.c, processes, args.verbose, show_progress_bar=not args.no_pbar)


def _with_option(name: str) -> str:
    return ", ".join(planner for planner in PLANNERS if name in planner_class(planner).own_options)


def _checked(dataset: int, planner: type, args: Namespace) -> Streams | None:
    """Checks a raw dataset; its streams if the command line or dataset.json gives any."""
    folder = Path(nnUNet_raw) / dataset_name(dataset, takes_names=False)
    file = folder / "dataset.json"
    dataset_json = read_plannable(file)
    names = getattr(planner, "input_names", channel_names_of)(dataset_json)
    if args.streams:
        streams = streams_from_command_line(args.streams, names)
    else:
        streams = streams_of_dataset(dataset_json, names)
    cases = (partly_labelled_cases if args.unlabelled else training_cases)(folder, dataset_json)
    check_cases(existing_files(cases), dataset_json, args.npfp, progress=not args.no_pbar)
    check_some_foreground(existing_files(cases), dataset_json)
    _tell_of_axes(folder, cases, dataset_json)
    if hasattr(planner, "check_raw"):  # what only this planner knows to look at
        planner.check_raw(dataset_json, cases, **{name: getattr(args, name) for name in planner.own_options})
    print("Streams:", describe_streams(streams or [[index] for index in range(len(names))], names))
    return streams


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
    """Of a raw dataset that has been checked; says how many files it wrote."""
    folder = Path(nnUNet_raw) / convert_id_to_dataset_name(dataset)
    dataset_json = read_dataset_json(folder / "dataset.json")
    cases = partly_labelled_cases(folder, dataset_json)
    written = write_empty_labels(cases, dataset_json)
    print(f"{folder.name}: {written} of {len(cases)} training cases had no label file and were given an empty one.")


def _write_streams(dataset: int, plans_name: str, streams: Streams) -> None:
    file = Path(nnUNet_preprocessed) / convert_id_to_dataset_name(dataset) / f"{plans_name}.json"
    plans = json.loads(file.read_text(encoding="utf-8"))
    plans["xmodal"] = {**plans.get("xmodal", {}), "streams": streams}
    write_json(plans, file)
