"""One harness for every registration: the same cases, the same starts, the same numbers, network or not."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from nnunet_xmodal.evaluation.registration_error import DIRECTIONS, registration_error, warped_dice
from nnunet_xmodal.evaluation.validation_summary import CaseResult, gather_results, mean_metrics, write_summary
from nnunet_xmodal.files.labels import organ_key
from nnunet_xmodal.tasks.registration.method import RegistrationMethod
from nnunet_xmodal.tasks.registration.perturbations import SRE, fixed_perturbations
from nnunet_xmodal.tasks.registration.training_cases import CaseOnGrid, RegistrationCases
from nnunet_xmodal.tasks.registration.turning_point import matrix_about


@dataclass(frozen=True)
class Starts:
    """The starts of every case.

    Attributes:
        sre: range in mm from which the starts of a case are drawn, seeded by its name.
        count: of them.
        exact: SRE in mm of further starts, all of that error.
        exact_count: of these, for each.
        about_corner: starts turn about the grid's corner, see `turning_point`.
    """

    sre: SRE = (0.0, 20.0)
    count: int = 40
    exact: tuple[float, ...] = ()
    exact_count: int = 20
    about_corner: bool = False


def measure_case(
    method: RegistrationMethod, name: str, case: CaseOnGrid, starts: Starts
) -> tuple[dict[str, float], dict]:
    """Register one aligned case from each of its starts and measure what is found.

    Returns:
        Means over the starts: SRE_before_mm; SRE_mm, translation_error_mm, rotation_error_deg and Dice of what is
        found; seconds; SRE_from_8mm_mm for starts of exactly 8 mm, and so on. And the SRE of every single start.
    """

    def found_from(sre: SRE, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        point = case.turning_point(starts.about_corner)
        return _registered(
            method, case, matrix_about(fixed_perturbations(name, case.points - point, sre, count), point)
        )

    matrices, seconds, bases = found_from(starts.sre, starts.count)
    errors = registration_error(matrices, case.points)
    values = {"SRE_before_mm": registration_error(bases, case.points)["SRE_mm"], "SRE_mm": errors["SRE_mm"]}
    for distance in starts.exact:
        matrices_from_there, *_ = found_from(float(distance), starts.exact_count)
        values[f"SRE_from_{distance:g}mm_mm"] = registration_error(matrices_from_there, case.points)["SRE_mm"]
    of_every_start = {metric: value.tolist() for metric, value in values.items()}
    values |= errors
    values["Dice"] = warped_dice(case.label, case.label, matrices.float(), case.spacing.float())
    values["seconds"] = seconds
    return {metric: value.mean().item() for metric, value in values.items()}, of_every_start


def _registered(
    method: RegistrationMethod, case: CaseOnGrid, bases: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Matrices found `(K, 4, 4)`, seconds `(K)` and the starts `(K, 4, 4)`; in aligned data base is M(p)."""
    fixed = case.label[0] if method.fixed_is_label else case.fixed[0]
    return *method.of_starts(fixed, case.moving[0], case.spacing.tolist(), bases), bases


def validate_registration(
    method: RegistrationMethod,
    cases: RegistrationCases,
    dataset_json: dict,
    fold_folder: str | Path,
    starts: Starts,
    log: Callable[[str], None] = print,
    rank: int = 0,
    ranks: int = 1,
) -> dict[str, float]:
    """Measure a method on every case and write `validation/summary.json`.

    Args:
        cases: of the validation fold.
        fold_folder: `…/fold_X`.
        rank, ranks: of DistributedDataParallel; every process takes its share and rank 0 writes the summary.

    Returns:
        Metric → mean over all cases.
    """
    folder, key = Path(fold_folder) / "validation", organ_key(dataset_json)
    folder.mkdir(parents=True, exist_ok=True)
    results: list[CaseResult] = []
    for case in cases.identifiers[rank::ranks]:
        log(f"predicting {case}")
        metrics, of_starts = measure_case(method, case, cases.cut(case), starts)
        results.append(
            {
                "reference_file": os.path.join(cases.dataset.source_folder, case),
                "prediction_file": str(folder / f"{case}{dataset_json['file_ending']}"),
                "metrics": {key: metrics},
                "starts": of_starts,
            }
        )
    results = gather_results(results, ranks)
    means = mean_metrics(results, key)
    if rank == 0:
        lower = {name: "lower" for name in means if name.startswith("SRE_from_") or name == "seconds"}
        notes = {
            "directions": DIRECTIONS | lower,
            "starts": {
                "SRE_mm": starts.sre,
                "count": starts.count,
                "exact_count": starts.exact_count,
                "about": "corner" if starts.about_corner else "centre",
            },
            "where": "a case's value is the mean over its starts",
        }
        write_summary(folder, results, key, notes)
    return means
