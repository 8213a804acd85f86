"""`nnUNetXModal_prepare`: what is missing is prepared, the rest is left as it is, and everything is reported."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_xmodal.datasets.organ_mask import mask_file
from nnunet_xmodal.datasets.presence import MISSING_FILE, write_missing
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.claim import claimed
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.folders import check_output_folder
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.parallel import run_all
from nnunet_xmodal.preparation.case import prepare_case
from nnunet_xmodal.preparation.case_task import CaseTask
from nnunet_xmodal.preparation.cases_and_settings import cases_and_settings
from nnunet_xmodal.preparation.dataset_json import dataset_json_of
from nnunet_xmodal.preparation.record import FOLDER, Record, fingerprint_of, read_records
from nnunet_xmodal.preparation.report import FAULT, fault_row, write_report
from nnunet_xmodal.preparation.request import PreparationRequest
from nnunet_xmodal.preparation.settings import PreparationSettings
from nnunet_xmodal.preparation.sources import SourceCase


def prepare(request: PreparationRequest) -> int:
    """Prepare the cases that are missing in the output, and report on all of them in its prepare.csv.

    Returns:
        How many cases were not prepared; prepare.csv says why.

    Raises:
        XModalError: for what concerns all cases, before anything is written: a request that contradicts itself or what
            is found, an output that is not named as a dataset or belongs to somebody else, and settings that are not
            those of an earlier run.
    """
    require_variables("nnUNet_raw")
    dataset = _dataset_folder(request.output)
    check_output_folder(dataset)
    with claimed(dataset):
        return _prepare(request, dataset)


def _prepare(request: PreparationRequest, dataset: Path) -> int:
    cases, settings = cases_and_settings(request)
    _check_apart(cases, settings, dataset)
    records = read_records(dataset)
    _check_settings(dataset, settings, records, cases, request.overwrite)
    tasks, changed = _tasks(cases, settings, dataset, records, request.overwrite)

    (dataset / FOLDER / "records").mkdir(parents=True, exist_ok=True)
    write_json(settings.as_json(), dataset / FOLDER / "settings.json")
    try:
        run_all(prepare_case, tasks, request.processes, "Preparing")
    finally:  # of what is done, also where a process was killed
        records = read_records(dataset)
        rows = [row for record in records.values() for row in record.rows] + changed
        write_report(sorted(rows, key=lambda row: row["case"]), dataset / "prepare.csv")
        _write_dataset_json(dataset, settings, records, request.overwrite)
    return _print_outcome(dataset, cases, tasks, records, rows, changed)


def _check_apart(cases: list[SourceCase], settings: PreparationSettings, dataset: Path) -> None:
    """Check that nothing is made of files in the output, which it would replace."""
    masks = [] if settings.roi is None or not Path(settings.roi).is_dir() else [Path(settings.roi)]
    inside = dataset.resolve()
    for file in [*masks, *(file for case in cases for file in case.inputs())]:
        if inside in (file.resolve(), *file.resolve().parents):
            raise XModalError(
                f"{file} lies in the output, {dataset.name}, where what is prepared would replace it: give -o another "
                "name."
            )


def _dataset_folder(name: str) -> Path:
    if not re.fullmatch(r"Dataset\d{3}_[^/\\]+", name):
        raise XModalError(f"-o {name} is not named as nnU-Net wants it: write for example Dataset510_Prostate.")
    raw = Path(os.environ["nnUNet_raw"])
    for other in raw.glob(f"{name[:10]}_*") if raw.is_dir() else ():
        if other.name != name and other.is_dir():
            raise XModalError(f"{other} has the ID of {name}, and nnU-Net wants one dataset for each: take another.")
    return raw / name


def _check_settings(
    dataset: Path, settings: PreparationSettings, records: dict[str, Record], cases: list[SourceCase], overwrite: bool
) -> None:
    file = dataset / FOLDER / "settings.json"
    if not file.is_file():
        if (dataset / "dataset.json").is_file() and not overwrite:
            raise XModalError(f"{dataset} is a dataset that was not made here: give another name, or --overwrite.")
        return
    try:
        earlier = read_json(file)
    except ValueError as error:
        raise XModalError(f"{file} is damaged: prepare anew with --overwrite, after deleting it.") from error
    now = json.loads(json.dumps(settings.as_json()))
    different = [name for name in {**now, **earlier} if now.get(name) != earlier.get(name)]
    if different and not overwrite:
        raise XModalError(
            f"{dataset} was prepared with another value of {', '.join(different)}: give another name, or --overwrite."
        )
    left = sorted(name for name, record in records.items() if record.done and name not in {c.name for c in cases})
    if different and left:
        raise XModalError(
            f"{dataset} holds {left[0]}, prepared with another value of {', '.join(different)} and not in the input: "
            "give all cases, or another name."
        )


def _tasks(
    cases: list[SourceCase], settings: PreparationSettings, dataset: Path, records: dict[str, Record], overwrite: bool
) -> tuple[list[CaseTask], list[dict]]:
    """Return what is to be done, and a row for each case that is done but whose inputs have changed since."""
    tasks, changed = [], []
    for case in cases:
        mask, case = _with_mask(case, settings)
        fingerprint = fingerprint_of([*case.inputs(), *([mask] if mask else [])], settings.as_json())
        record = records.get(case.name)
        if record and record.done and record.fingerprint != fingerprint and not overwrite:
            sentence = "its files have changed since it was prepared, and it was left as it is: give --overwrite."
            changed.append(fault_row(case.name, sentence))
            continue
        if record and record.complete(dataset) and not overwrite:
            continue
        tasks.append(CaseTask(case, settings, dataset, fingerprint, mask, record, overwrite))
    return tasks, changed


def _with_mask(case: SourceCase, settings: PreparationSettings) -> tuple[Path | None, SourceCase]:
    if settings.roi is None or not Path(settings.roi).is_dir():
        return None, case
    try:
        return mask_file(Path(settings.roi), case.name), case
    except XModalError as error:
        return None, replace(case, faults=(*case.faults, str(error)))


def _write_dataset_json(
    dataset: Path, settings: PreparationSettings, records: dict[str, Record], overwrite: bool
) -> None:
    done = [record for record in records.values() if record.done]
    if not done:
        return
    content = dataset_json_of(settings, sum(record.split == "Tr" for record in done))
    file = dataset / "dataset.json"
    if file.is_file() and not overwrite:  # what somebody has added stays
        content = {**read_json(file), "numTraining": content["numTraining"]}
    write_json(content, file)
    write_missing({record.case: record.missing for record in done if record.missing}, dataset)


def _print_outcome(
    dataset: Path,
    cases: list[SourceCase],
    tasks: Sequence[CaseTask],
    records: dict[str, Record],
    rows: list[dict],
    changed: list[dict],
) -> int:
    """Print how many cases are prepared and what is wrong with others; return how many are at fault."""
    attempted = {task.source.name for task in tasks}
    new = [name for name in attempted if records[name].done]
    at_fault = {row["case"] for row in rows if row["status"] == FAULT and row["case"] in {c.name for c in cases}}
    splits = [records[case.name].split for case in cases if case.name in records and records[case.name].done]
    bare = sum(case.label is None and not case.faults for case in cases)
    without = f", and {bare} of the {len(cases)} found have no label" if 0 < bare < len(cases) else ""
    print(
        f"{dataset.name}: {len(new)} cases prepared, {len(cases) - len(attempted) - len(changed)} were done before, "
        f"{len(at_fault)} at fault; imagesTr has {splits.count('Tr')} of them, imagesTs {splits.count('Ts')}{without}."
    )
    for row in sorted((row for row in rows if row["case"] in at_fault), key=lambda row: row["case"])[:10]:
        if row["status"] == FAULT:
            print(f"  {row['case']}: {row['note']}")
    remarks = sum(bool(row.get("note")) for row in rows if row["status"] != FAULT)
    if (dataset / MISSING_FILE).is_file():
        incomplete = sum(bool(record.missing) for record in records.values() if record.done)
        print(f"{dataset / MISSING_FILE} (what {incomplete} cases lack)")
    print(f"{dataset / 'prepare.csv'} ({remarks} remarks)\n{dataset / FOLDER / 'figures'}")
    return len(at_fault)
