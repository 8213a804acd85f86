"""`explanation.json`: of which model and of which cases a folder holds explanations, so that none are mixed."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.tasks.segmentation.explanation_request import ExplanationRequest

RECORD = "explanation.json"
_TABLES = ("shapley.csv", "shapley_summary.csv", "shapley_subsets.csv")


def check_record(folder: Path, request: ExplanationRequest, cases: Iterable[str]) -> None:
    """Check that what a folder holds stays right beside new explanations, which replace its tables.

    Raises:
        XModalError: for explanations of another model or with other settings, or of cases that are not among the new
            ones, and for tables of somebody else.
    """
    file = folder / RECORD
    if not file.is_file():
        for name in _TABLES:
            if (folder / name).exists():
                raise XModalError(
                    f"{folder / name} is of no explanation that is on record, and one would replace it: give another "
                    "-o."
                )
        return
    content = read_json(file)
    theirs = content if isinstance(content, dict) else {}
    for key, ours in _settings(request).items():
        if theirs.get(key) != ours:
            raise XModalError(
                f"{folder} holds explanations with the {key} {theirs.get(key)}, and these are with {ours}: give "
                "another -o."
            )
    gone = sorted(set(theirs.get("cases", [])) - set(cases))
    if gone:
        raise XModalError(
            f"{folder} holds explanations of {gone[0]}, which is not among these cases: give another -o, or all cases "
            "at once."
        )


def write_record(folder: Path, request: ExplanationRequest, cases: Sequence[str]) -> None:
    """Write what a folder is about to hold."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json({**_settings(request), "cases": sorted(cases)}, folder / RECORD)


def _settings(request: ExplanationRequest) -> dict:
    asked = request.prediction
    model = f"{asked.dataset}/{asked.trainer}__{asked.plans}__{asked.configuration}"
    return {
        "model": model,
        "folds": [str(fold) for fold in asked.folds],
        "checkpoint": asked.checkpoint,
        "labels": list(request.labels),
        "players": list(request.of),
        "options": {name: str(value) for name, value in asked.options.items()},
    }
