"""Only like is compared with like: the same cases, in the same folds, with the same labels and files."""

from collections.abc import Collection, Sequence

from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.metrics import SEGMENTATION_METRICS
from nnunet_xmodal.files.labels import foreground

_OF_A_DATASET = {"labels": "labels", "file_ending": "file ending", "regions_class_order": "order of regions"}


def common_cases(
    models: Sequence[ModelResults], allow_missing: bool = False, expected: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Return the cases that are compared, and notes on what was left out.

    Args:
        allow_missing: goes on with the cases that all models validated in the same fold.
        expected: cases that all models should have.

    Raises:
        XModalError: for other labels or another file ending, and results that have no metric in common; unless
            `allow_missing`, for a missing fold, a case that one model lacks, and another split; if no common case is
            left.
    """
    first = models[0]
    for other in models[1:]:
        _check_same_dataset(first, other)
        _check_same_task(first, other)
    faults = [fault for model in models for fault in model.missing]
    folds: dict[str, dict[str, str]] = {}
    for model in models:
        for case, result in model.cases.items():
            folds.setdefault(case, {})[model.name] = result.fold
    common = []
    for case in sorted(folds):
        lacking = [model.name for model in models if model.name not in folds[case]]
        split = {name: fold for name, fold in folds[case].items() if fold}
        if lacking:
            having = next(iter(folds[case]))
            has = "has" if len(lacking) == 1 else "have"
            faults.append(f"{', '.join(lacking)} {has} no result of {case}, which {having} has")
        elif len(set(split.values())) > 1:
            where = ", ".join(f"fold {fold} of {name}" for name, fold in split.items())
            faults.append(f"other splits: {case} was validated in {where}")
        else:
            common.append(case)
    faults += [f"there is a reference of {case}, but no result" for case in sorted(set(expected) - set(folds))]
    if faults and not allow_missing and common:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise XModalError(
            f"{faults[0]}{more}: complete the results, or give --allow-missing to compare the {len(common)} cases that "
            "all have in the same fold."
        )
    if not common:
        if len(models) == 1 and faults:
            raise XModalError(f"{models[0].name} has no result at all: {faults[0]}, train it or check -f.")
        raise XModalError(f"{', '.join(model.name for model in models)} have no case in common{_first(faults)}.")
    notes = [f"Left out with --allow-missing: {fault}." for fault in faults]
    return common, notes


def _first(faults: Sequence[str]) -> str:
    return f" ({faults[0]})" if faults else ""


def _check_same_dataset(first: ModelResults, other: ModelResults) -> None:
    for key, what in _OF_A_DATASET.items():
        ours, theirs = first.dataset_json.get(key), other.dataset_json.get(key)
        if ours != theirs:
            raise XModalError(
                f"{first.folder} and {other.folder} have another {what} in dataset.json, {ours} and {theirs}: they "
                "cannot be compared."
            )


def _check_same_task(first: ModelResults, other: ModelResults) -> None:
    ours, theirs = _measured(first), _measured(other)
    if ours and theirs and not set(ours) & set(theirs):
        raise XModalError(
            f"{first.folder} has {ours[0]} and {other.folder} has {theirs[0]}, but they have no metric in common: "
            "results of different tasks cannot be compared."
        )


def _measured(model: ModelResults) -> list[str]:
    """Name what is known about any of a model's cases, as "Dice of tumour"."""
    measured = [
        f"{metric} of {label}"
        for result in model.cases.values()
        for label, values in result.reported.items()
        for metric in values
    ]
    if model.is_segmentation:
        measured += [
            f"{metric} of {label}" for label in foreground(model.dataset_json) for metric in SEGMENTATION_METRICS
        ]
    return measured
