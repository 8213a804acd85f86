"""The demo's new cases, complete and without each stream: predicted by all folds, measured, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_xmodal.datasets.streams import distinct_channel_names, streams_of
from nnunet_xmodal.demo.conditions import Condition, conditions_of
from nnunet_xmodal.demo.progress import Progress
from nnunet_xmodal.demo.settings import PLANS, Demo, read_json
from nnunet_xmodal.files.atomic import write_atomically

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from nnunet_xmodal.evaluation.figures.conditions import Row

DRAWN = 3
"""Cases in the figure; the table is about all of them."""


@dataclass(frozen=True)
class Case:
    """A case of the raw dataset; the label's file may be absent."""

    name: str
    images: list[str]
    label: Path


def new_cases(demo: Demo) -> tuple[list[Case], list[int]]:
    """Return the cases of `imagesTs` and all folds; without such cases, those that fold 0 validates on, and [0]."""
    from nnunet_xmodal.datasets.cases import cases_in_folder, training_cases

    ending = demo.dataset_json["file_ending"]
    new = demo.raw / "imagesTs"
    if new.is_dir() and any(new.glob(f"*_0000{ending}")):
        found = [
            (case, demo.raw / "labelsTs" / f"{case.name}{ending}") for case in cases_in_folder(new, demo.dataset_json)
        ]
        folds = list(range(demo.folds))
    else:
        validated = set(demo.validation_cases(0))
        of_training = training_cases(demo.raw, demo.dataset_json)
        found = [(case, Path(case.label or "")) for case in of_training if case.name in validated]
        folds = [0]
    return [Case(case.name, list(map(str, case.images)), label) for case, label in found[: demo.cases]], folds


def conditions(demo: Demo) -> list[Condition]:
    """Return the conditions of the planned dataset."""
    streams = streams_of(read_json(demo.preprocessed / f"{PLANS}.json"), {}, demo.dataset_json)
    return conditions_of(streams, distinct_channel_names(demo.dataset_json))


def predict(demo: Demo, progress: Progress, device: torch.device) -> None:
    """Write the mean of every trainer's folds under every condition, without nnU-Net's mirroring.

    A model that was trained with stream dropout is given the streams that are left, as by
    `nnUNetXModal_predict --allow_missing`. For any other one the preprocessed channels that are missing become 0, which
    is their mean.
    """
    # nnU-Net reads its environment when it is imported
    from nnunet_xmodal.networks.of_present_streams import is_told_streams
    from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor

    cases, folds = new_cases(demo)
    for trainer in demo.trainers:
        with progress.step(f"predicting {len(cases)} new cases, {trainer}"):
            predictor = SegmentationPredictor(use_mirroring=False, device=device, allow_tqdm=False)
            predictor.initialize_from_trained_model_folder(str(demo.model(trainer)), folds)
            for condition in conditions(demo):
                output = demo.predictions(trainer, condition.without)
                output.mkdir(parents=True, exist_ok=True)
                if not condition.missing:
                    predictor.predict_from_files_sequential(
                        [case.images for case in cases], [str(output / case.name) for case in cases]
                    )
                elif is_told_streams(predictor.network):
                    _leave_out(predictor, cases, condition, demo, output)
                else:
                    _set_to_zero(predictor, cases, condition, output)


def _leave_out(
    predictor: nnUNetPredictor, cases: Sequence[Case], condition: Condition, demo: Demo, output: Path
) -> None:
    from nnunet_xmodal.datasets.partial_cases import PartialCase
    from nnunet_xmodal.prediction.request import PredictionRequest
    from nnunet_xmodal.tasks.segmentation.missing_streams import predict_partial_cases
    from nnunet_xmodal.tasks.segmentation.options import SegmentationOptions

    partial = [
        PartialCase(case.name, {n: Path(file) for n, file in enumerate(case.images) if n not in condition.missing})
        for case in cases
    ]
    request = PredictionRequest(
        images=demo.raw / "imagesTs",  # not read: the cases are given
        output=output,
        dataset=demo.raw.name,
        configuration=demo.trained_configuration,
        preprocessing_processes=0,
        export_processes=0,
        progress=False,
    )
    predict_partial_cases(predictor, partial, request, SegmentationOptions(allow_missing=True))


def _set_to_zero(predictor: nnUNetPredictor, cases: Sequence[Case], condition: Condition, output: Path) -> None:
    from nnunet_xmodal.prediction.export import export_prediction
    from nnunet_xmodal.prediction.preprocessed import preprocessed

    outputs = [str(output / case.name) for case in cases]
    for case in preprocessed(predictor, [case.images for case in cases], outputs, 0):
        case["data"][list(condition.missing)] = 0
        logits = predictor.predict_logits_from_preprocessed_data(case["data"]).cpu()
        export_prediction(
            logits,
            case["data_properties"],
            predictor.configuration_manager,
            predictor.plans_manager,
            predictor.dataset_json,
            case["ofile"],
        )


def dice_of(demo: Demo) -> pd.DataFrame | None:
    """Return the Dice of the predicted new cases: trainer, condition, case, label, Dice; None without references."""
    from nnunet_xmodal.comparison.case_cache import CaseCache
    from nnunet_xmodal.comparison.case_table import case_table
    from nnunet_xmodal.comparison.cross_validation import read_predictions
    from nnunet_xmodal.evaluation.case_metrics import MetricSettings

    cases, _ = new_cases(demo)
    if not all(case.label.is_file() for case in cases):
        return None
    rows = {f"{t}, {c}": (t, c) for t in demo.trainers for c in conditions(demo)}
    models = [
        read_predictions(name, demo.predictions(trainer, condition.without), demo.dataset_json)
        for name, (trainer, condition) in rows.items()
    ]
    names, references = [case.name for case in cases], cases[0].label.parent
    table, _ = case_table(models, names, references, MetricSettings(), CaseCache(demo.folder / "cache"), processes=1)
    table["trainer"] = [rows[name][0] for name in table["model"]]
    table["condition"] = [str(rows[name][1]) for name in table["model"]]
    return table[["trainer", "condition", "case", "label", "Dice"]]


def draw(demo: Demo, dice: pd.DataFrame | None) -> None:
    """Draw cases.png: channels, reference, and every trainer's prediction under every condition."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_xmodal.evaluation.figures.conditions import draw_rows
    from nnunet_xmodal.files.dataset_labels import has_regions
    from nnunet_xmodal.files.labels import foreground

    reader = PlansManager(str(demo.preprocessed / f"{PLANS}.json")).image_reader_writer_class()
    shares = {} if dice is None else known_shares(demo, dice)
    rows = [_row(demo, reader, case, dice, shares) for case in new_cases(demo)[0][:DRAWN]]
    labels = foreground(demo.dataset_json)
    if has_regions(demo.dataset_json["labels"]):  # label maps hold the values that regions are made of
        labels = {f"label {value}": (value,) for values in labels.values() for value in values}
    named = {values[0]: name for name, values in labels.items()}
    write_atomically(demo.folder / "cases.png", lambda file: draw_rows(rows, named, file))


def known_shares(demo: Demo, dice: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return trainer → what each stream brings to the Dice, of trainers whose models were given what was left."""
    from nnunet_xmodal.demo.shares import shares_of_dice

    found = {}
    for trainer in demo.trainers:
        folders = [demo.predictions(trainer, condition.without) for condition in conditions(demo)[1:]]
        if folders and all((folder / "missing.json").is_file() for folder in folders):
            shares = shares_of_dice(dice, conditions(demo), trainer)
            if shares is not None:
                found[trainer] = shares
    return found


def _row(
    demo: Demo, reader: BaseReaderWriter, case: Case, dice: pd.DataFrame | None, shares: dict[str, pd.DataFrame]
) -> Row:
    """Choose the slice of a case that shows most."""
    from nnunet_xmodal.evaluation.figures.cases import clearest_slice
    from nnunet_xmodal.evaluation.figures.conditions import Panel, Row

    ending, names = demo.dataset_json["file_ending"], distinct_channel_names(demo.dataset_json)
    images, properties = reader.read_images(case.images)  # C z y x
    truth = reader.read_seg(str(case.label))[0][0] if case.label.is_file() else None
    segmented = {
        (condition, trainer): reader.read_seg(
            str(demo.predictions(trainer, condition.without) / f"{case.name}{ending}")
        )[0][0]
        for condition in conditions(demo)
        for trainer in demo.trainers
    }
    shown = None if truth is None else truth == truth.max()  # the last label is the innermost
    z = clearest_slice(shown, *segmented.values())
    panels = [Panel(name, image[z]) for name, image in zip(names, images)]
    if truth is not None:
        panels.append(Panel("reference", images[0, z], truth[z]))
    groups = {"new cases": panels}
    for condition in conditions(demo):
        ground = next(image for n, image in enumerate(images) if n not in condition.missing)
        groups[str(condition)] = [
            Panel(
                _short(trainer),
                ground[z],
                segmented[condition, trainer][z],
                _below(dice, trainer, condition, case) + ("" if condition.missing else _shared(shares, trainer, case)),
            )
            for trainer in demo.trainers
        ]
    _, y_mm, x_mm = properties["spacing"]
    return Row(groups, float(y_mm / x_mm))


def _short(trainer: str) -> str:
    return trainer.removeprefix("nnUNetTrainer") or "nnU-Net"


def _below(dice: pd.DataFrame | None, trainer: str, condition: Condition, case: Case) -> str:
    """Dice of the whole case: of the last label, the innermost one, with its name if there are several."""
    if dice is None:
        return ""
    of_case = dice[(dice["trainer"] == trainer) & (dice["condition"] == str(condition)) & (dice["case"] == case.name)]
    last = of_case.iloc[-1]
    if isnan(last["Dice"]):  # of what neither reference nor prediction has there is none
        return ""
    name = f"{last['label']} " if len(of_case) > 1 else "Dice "
    return f"{name}{100 * last['Dice']:.0f}"


def _shared(shares: dict[str, pd.DataFrame], trainer: str, case: Case) -> str:
    """A second line: what each modality brings to the Dice above it."""
    if trainer not in shares:
        return ""
    of_case = shares[trainer][shares[trainer]["case"] == case.name]
    if of_case.empty:
        return ""
    last = of_case.iloc[-1]
    if last.iloc[2:].isna().any():  # no reference to measure with
        return ""
    return "\n" + " + ".join(f"{stream} {100 * value:.0f}" for stream, value in last.iloc[2:].items())
