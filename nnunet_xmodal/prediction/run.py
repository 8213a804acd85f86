"""From the flags of `nnUNetXModal_predict` to predicted files, with the predictor that the model's trainer names."""

import json
import multiprocessing
from argparse import Namespace
from pathlib import Path
from typing import TypeVar

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.file_path_utilities import get_output_folder
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import discovery
from nnunet_xmodal.data.environment import require_variables
from nnunet_xmodal.data.image_checks import Case, cases_in_folder, check_cases
from nnunet_xmodal.data.partial_cases import PartialCase, partial_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dataset_json import read_dataset_json
from nnunet_xmodal.files.dataset_names import dataset_name
from nnunet_xmodal.files.remarks import repeated_remarks
from nnunet_xmodal.prediction.attention_maps import check_has_attention_maps
from nnunet_xmodal.prediction.missing_streams import predict_partial_cases
from nnunet_xmodal.prediction.organ_roi import crop_to_organ, organ_roi
from nnunet_xmodal.prediction.segmentation import SegmentationPredictor
from nnunet_xmodal.prediction.trained_axes import follow_axes_of_training

AnyCase = TypeVar("AnyCase", Case, PartialCase)

_OPTIONS = frozenset(
    {"attention_maps", "reference_intensities", "init", "roi", "labels", "stage2", "refine", "grad_cam"}
    | {"mask", "field_unit", "B0", "TE", "b0_direction", "support", "match", "allow_missing", "impute"}
    | {"roi_label", "margin"}
)
"""Flags that nnU-Net's command does not have; a predictor names those that it understands in `options`."""


@repeated_remarks()
def predict(args: Namespace) -> None:
    """Check model and images, then predict; remarks come once more at the end.

    Args:
        args: see `commands/predict.py`.

    Raises:
        XModalError: before anything is written, for a missing model, fold or device, and for faulty images.
    """
    discovery.register()
    folder = model_folder(args)
    dataset_json = read_dataset_json(folder / "dataset.json")
    _check_cascade(folder, args)
    _check_part(args)
    _check_options(args)
    kind = predictor_class(args.tr)
    reads_folders = hasattr(kind, "predict_folder")
    takes_partial_cases = args.allow_missing or args.impute is not None
    crops = issubclass(kind, SegmentationPredictor)
    roi = organ_roi(args.roi, args.roi_label, args.margin, dataset_json) if crops else None
    cases = [] if reads_folders or takes_partial_cases else _cases(args, dataset_json)
    predictor = kind(
        tile_step_size=args.step_size,
        use_gaussian=True,
        use_mirroring=not args.disable_tta,
        perform_everything_on_device=not args.not_on_device,
        device=_device(args.device),
        verbose=args.verbose,
        verbose_preprocessing=args.verbose,
        allow_tqdm=not args.disable_progress_bar,
    )
    predictor.initialize_from_trained_model_folder(str(folder), args.f, args.chk)
    follow_axes_of_training(predictor, folder, args)
    if reads_folders:
        return predictor.predict_folder(args)
    if hasattr(predictor, "prepare"):
        predictor.prepare(args)
    output = Path(args.o)
    if args.attention_maps:
        check_has_attention_maps(predictor)
        predictor.attention_folder = output / "attention_maps"
    if takes_partial_cases:
        partial = _of_this_call(partial_cases(args.i, dataset_json), args, dataset_json)
        return predict_partial_cases(predictor, partial, args, roi)
    check_cases(
        cases, dataset_json, max(1, args.npp), not args.disable_progress_bar, doing=f"Checking {len(cases)} cases"
    )
    if roi is not None:
        crop_to_organ(predictor, cases, roi, max(1, args.npp), not args.disable_progress_bar)
    output.mkdir(parents=True, exist_ok=True)
    common = {
        "save_probabilities": args.save_probabilities,
        "overwrite": not args.continue_prediction,
        "folder_with_segs_from_prev_stage": args.prev_stage_predictions,
    }
    if args.npp == 0 and args.nps == 0:
        # files instead of the folder: nnU-Net's sequential way knows no parts
        files = [[str(image) for image in case.images] for case in cases]
        predictor.predict_from_files_sequential(files, args.o, **common)
    else:
        predictor.predict_from_files(
            args.i,
            args.o,
            num_processes_preprocessing=args.npp,
            num_processes_segmentation_export=args.nps,
            num_parts=args.num_parts,
            part_id=args.part_id,
            **common,
        )


def predictor_class(trainer_name: str) -> type[nnUNetPredictor]:
    """The predictor of a trainer's models: its `predictor_class`, nnU-Net's for trainers from elsewhere.

    One that reads a folder in its own way has a method `predict_folder(args)`, which checks before it writes.
    """
    trainer = recursive_find_trainer_class_by_name(trainer_name)
    return getattr(trainer, "predictor_class", SegmentationPredictor)


def model_folder(args: Namespace) -> Path:
    """Of the dataset, trainer, plans and configuration that the flags name.

    Raises:
        XModalError: for a dataset without results, a missing model or fold, and for checkpoints of something else.
    """
    require_variables("nnUNet_results")
    folder = Path(get_output_folder(dataset_name(args.d), args.tr, args.p, args.c))
    if not folder.is_dir():
        raise XModalError(f"there is no model {folder}: train it, or check -d, -tr, -p and -c.")
    for fold in args.f:
        checkpoint = folder / f"fold_{fold}" / args.chk
        if not checkpoint.is_file():
            raise XModalError(f"{checkpoint} is missing: train that fold, or name the trained ones with -f.")
        _check_checkpoint(checkpoint, args.tr)
    return folder


def _check_checkpoint(checkpoint: Path, trainer: str) -> None:
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True)
        name, streams = content["trainer_name"], content["init_args"]["plans"].get("xmodal", {}).get("streams")
    except Exception as error:
        raise XModalError(f"{checkpoint} is no readable checkpoint ({error}).") from error
    if name != trainer:
        raise XModalError(f"{checkpoint} was written by {name}, not by {trainer}: it lies in the wrong folder.")
    plans = checkpoint.parents[1] / "plans.json"
    shared = json.loads(plans.read_text(encoding="utf-8")).get("xmodal", {}).get("streams")
    if streams != shared:
        raise XModalError(
            f"{checkpoint} was trained with the streams {streams}, but {plans} says {shared}: train anew."
        )


def _check_cascade(model_folder: Path, args: Namespace) -> None:
    previous = PlansManager(str(model_folder / "plans.json")).get_configuration(args.c).previous_stage_name
    if previous is not None and args.prev_stage_predictions is None:
        raise XModalError(
            f"{args.c} is the second stage of a cascade: predict {previous} first and give its output folder with "
            "-prev_stage_predictions."
        )


def _check_part(args: Namespace) -> None:
    if not 0 <= args.part_id < args.num_parts:
        raise XModalError(f"-part_id {args.part_id} is not between 0 and {args.num_parts - 1}.")


def _check_options(args: Namespace) -> None:
    """
    Raises:
        XModalError: for a flag of another kind of model.
    """
    understood = getattr(predictor_class(args.tr), "options", frozenset())
    for option in sorted(_OPTIONS - understood):
        if getattr(args, option):
            raise XModalError(f"--{option} says nothing to models of {args.tr}: leave it out.")


def _cases(args: Namespace, dataset_json: dict) -> list[Case]:
    return _of_this_call(cases_in_folder(args.i, dataset_json), args, dataset_json)


def _of_this_call(cases: list[AnyCase], args: Namespace, dataset_json: dict) -> list[AnyCase]:
    """Those of this part that are not predicted yet."""
    cases = cases[args.part_id :: args.num_parts]
    ending = dataset_json["file_ending"]
    if args.prev_stage_predictions is not None:
        for case in cases:
            file = Path(args.prev_stage_predictions) / f"{case.name}{ending}"
            if not file.is_file():
                raise XModalError(f"{file} is missing: predict the previous stage of {case.name} first.")
    if args.continue_prediction:
        endings = [ending, ".npz"] if args.save_probabilities else [ending]
        cases = [case for case in cases if not all((Path(args.o) / f"{case.name}{e}").is_file() for e in endings)]
    return cases


def _device(name: str) -> torch.device:
    if name == "cuda":
        if not torch.cuda.is_available():
            raise XModalError("there is no CUDA device: add -device cpu.")
        # as nnU-Net does: threads of torch do not help a GPU
        torch.set_num_threads(1)
    elif name == "cpu":
        torch.set_num_threads(multiprocessing.cpu_count())
    return torch.device(name)
