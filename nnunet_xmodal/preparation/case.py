"""One case from its native scans to nnU-Net's files, in a process of its own."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.datasets.organ_mask import in_organ, organ_on_grid
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.scan import Scan
from nnunet_xmodal.geometry.organ_crop import Box, box_around, crop
from nnunet_xmodal.geometry.orientation import code_of, oriented
from nnunet_xmodal.geometry.resampling import onto_grid, outside_value, same_grid
from nnunet_xmodal.preparation.case_files import CaseFiles, check_replaceable, write_files
from nnunet_xmodal.preparation.case_inputs import read_label, read_scans, two_places
from nnunet_xmodal.preparation.case_task import CaseTask
from nnunet_xmodal.preparation.label_maps import values_of, volume_mm3
from nnunet_xmodal.preparation.placement import Channel, check_overlap, note_coverage, placed, registered
from nnunet_xmodal.preparation.record import FOLDER, Record
from nnunet_xmodal.preparation.report import fault_row
from nnunet_xmodal.preparation.settings import LABEL, PreparationSettings
from nnunet_xmodal.preparation.sources import SourceCase

_VOLUME_TO = 0.02  # of a label: by what resampling may change it without a word


def prepare_case(task: CaseTask) -> None:
    """Write the case's files and its record; what could not be done is a sentence in the record."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # processes share the cores
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # of odd headers, over the progress bar
    previous = [] if task.previous is None else [task.previous]
    attempts = list(previous)
    try:
        if task.source.faults:
            raise XModalError(" ".join(task.source.faults))
        files, record = _prepared(task)
        check_replaceable(files, task)
        for name in {name for attempt in previous for name in attempt.files} - set(record.files):
            (task.dataset / name).unlink(missing_ok=True)
        attempts.append(record)
        if task.incomplete is None:
            record.write(task.dataset)  # not done yet: an interrupted run knows what it may replace
        write_files(files, task)
        record = replace(record, done=True)
    except Exception as error:  # the other cases go on
        sentence = str(error) if isinstance(error, XModalError) else _unforeseen(error)
        rows = [fault_row(task.source.name, sentence)]
        if task.incomplete is not None:
            record = replace(task.incomplete, done=False, rows=rows)
        else:
            for attempt in attempts:
                attempt.delete_files(task.dataset)
            record = Record(task.source.name, task.fingerprint, rows=rows)
    record.write(task.dataset)


def _prepared(task: CaseTask) -> tuple[CaseFiles, Record]:
    """Return what is to be written, and the record of it, not done yet."""
    source, settings = task.source, task.settings.for_case(task.source.images)
    missing = [name for name in task.settings.channels if name not in source.images]
    if task.settings.fixed in missing and (source.transforms or source.landmarks):
        raise XModalError(f"{task.settings.fixed} is missing, from which transforms and landmarks lead to the others.")
    scans = read_scans(source, settings)
    label = read_label(source, settings, scans)
    turned = scans
    if settings.orientation is not None:  # behind PNG labels, which lie like DICOM's slices
        turned = {name: replace(scan, image=oriented(scan.image, settings.orientation)) for name, scan in scans.items()}
        label = None if label is None else oriented(label, settings.orientation)
    reference = _reference(settings, turned, label)
    remarks = two_places(task)
    channels = {
        name: Channel(turned[name].image).noted(*_remarks(scan, source.images[name], settings, remarks))
        for name, scan in scans.items()
    }
    channels = placed(channels, source, settings.fixed)
    channels = check_overlap(channels, source, reference, settings.reference)
    if settings.register:
        channels = registered(channels, settings.fixed, reference)

    on_grid = None if label is None else _label_on_grid(label, reference, source)
    box = _box(task, reference, on_grid)
    target = reference if box is None else crop(reference, box)
    if box is not None:  # a channel may cover most of the reference and miss the organ
        channels = note_coverage(channels, target, "the crop")
    images = {name: _resampled(name, channel, reference, box, target) for name, channel in channels.items()}
    cropped = on_grid if on_grid is None or box is None else crop(on_grid, box)

    transforms = _transforms(channels, reference, source.name)
    rows = _channel_rows(source, channels, reference, {name: file for name, (file, _) in transforms.items()})
    rows += [_missing_row(source.name, name, task.settings, settings) for name in missing]
    if label is not None and on_grid is not None and cropped is not None and source.label is not None:
        notes = [remarks[source.label]] if source.label in remarks else []
        notes += _label_notes(label, on_grid, cropped, turned)
        resampled = not same_grid(label, reference)
        rows.append(_row(source.name, LABEL, source.label, label, resampled, notes))
    split = source.split or ("Tr" if label is not None else settings.unlabelled)
    numbers = {name: number for number, name in enumerate(task.settings.channels)}
    files = CaseFiles(source.name, split, images, numbers, cropped, dict(transforms.values()))
    record = Record(
        source.name,
        task.fingerprint,
        split=split,
        files=files.names,
        missing=missing,
        rows=rows,
        grid={
            "size": reference.GetSize(),
            "spacing": reference.GetSpacing(),
            "origin": reference.GetOrigin(),
            "direction": reference.GetDirection(),
        },
        box=None if box is None else box._asdict(),
    )
    return files, record


def _remarks(scan: Scan, file: Path, settings: PreparationSettings, places: Mapping[Path, str]) -> list[str]:
    """Return notes on a scan as it was read."""
    code = code_of(scan.image.GetDirection())
    notes = [] if settings.orientation in (None, code) else [f"turned from {code} to {settings.orientation}"]
    return notes + ([places[file]] if file in places else [])


def _reference(settings: PreparationSettings, scans: Mapping[str, Scan], label: sitk.Image | None) -> sitk.Image:
    if settings.reference != LABEL:
        return scans[settings.reference].image
    if label is None:
        raise XModalError("there is no label, whose grid --reference label asks for: give one, or another reference.")
    return label


def _resampled(name: str, channel: Channel, reference: sitk.Image, box: Box | None, target: sitk.Image) -> sitk.Image:
    image = channel.image
    if box is None or channel.matrix is not None or not same_grid(image, reference):
        return onto_grid(image, target, "linear", channel.matrix, outside_value(name, image))
    return onto_grid(crop(image, box), target, "linear")


def _label_on_grid(label: sitk.Image, reference: sitk.Image, source: SourceCase) -> sitk.Image:
    on_grid = onto_grid(label, reference, "nearest")
    if volume_mm3(label) and not volume_mm3(on_grid):
        raise XModalError(
            f"{source.label} lies beside the reference, on a wrong grid: none of it falls on a voxel; correct its "
            "origin and direction."
        )
    return on_grid


def _label_notes(label: sitk.Image, on_grid: sitk.Image, cropped: sitk.Image, scans: Mapping[str, Scan]) -> list[str]:
    """Return notes on the grid of a label, and on what resampling and cropping did to its volume."""
    notes = []
    alike = [name for name, scan in scans.items() if scan.image.GetSize() == label.GetSize()]
    if alike and not any(same_grid(label, scan.image) for scan in scans.values()):
        notes.append(f"has as many voxels as {alike[0]} but another place in space: its header may be wrong")
    before, after, inside = volume_mm3(label), volume_mm3(on_grid), volume_mm3(cropped)
    drawn, kept = (np.unique(sitk.GetArrayViewFromImage(image)).tolist() for image in (label, on_grid))
    if gone := [str(value) for value in drawn if value and value not in kept]:
        notes.append(f"nothing of value {', '.join(gone)} is left on the reference's grid: it was drawn too small")
    if before and abs(after / before - 1) > _VOLUME_TO:
        notes.append(f"has {100 * after / before:.1f} % of its volume on the reference's grid")
    if after and inside < after:
        notes.append(f"the crop leaves out {100 * (1 - inside / after):.1f} % of the label")
    return notes


def _box(task: CaseTask, reference: sitk.Image, label: sitk.Image | None) -> Box | None:
    settings = task.settings
    if settings.roi is None:
        return None
    if task.roi_mask is not None:
        return box_around(organ_on_grid(task.roi_mask, reference, settings.roi_values), settings.margin_mm)
    values = values_of(settings.roi, settings.labels or {})
    if values is None or label is None or task.source.label is None:
        raise XModalError(f"there is no label to crop to {settings.roi}: give a folder of masks as --roi.")
    inside = sitk.GetImageFromArray(in_organ(sitk.GetArrayViewFromImage(label), task.source.label, values))
    inside.CopyInformation(label)
    return box_around(inside, settings.margin_mm)


def _transforms(
    channels: Mapping[str, Channel], reference: sitk.Image, case: str
) -> dict[str, tuple[str, sitk.Transform]]:
    """Return file and transform of every channel that has one."""
    moved = {name: channel.matrix for name, channel in channels.items() if channel.matrix is not None}
    if not moved:
        return {}
    from nnunet_xmodal.preparation.alignment import as_transform  # imports torch

    written = {name: re.sub(r"[^A-Za-z0-9._-]+", "_", name) for name in channels}
    alike = Counter(written.values())
    numbers = {name: f"_{number:04d}" if alike[written[name]] > 1 else "" for number, name in enumerate(channels)}
    return {
        name: (f"{FOLDER}/transforms/{case}_{written[name]}{numbers[name]}.tfm", as_transform(matrix, reference))
        for name, matrix in moved.items()
    }


def _channel_rows(
    source: SourceCase, channels: Mapping[str, Channel], reference: sitk.Image, transforms: Mapping[str, str]
) -> list[dict]:
    rows = []
    for name, channel in channels.items():
        resampled = channel.matrix is not None or not same_grid(channel.image, reference)
        row = _row(source.name, name, source.images[name], channel.image, resampled, channel.notes)
        row["transform"] = transforms.get(name, "")
        for key, value in (("similarity_before", channel.before), ("similarity_after", channel.after)):
            row[key] = "" if value is None else f"{value:.4f}"
        rows.append(row)
    return rows


def _missing_row(case: str, channel: str, settings: PreparationSettings, of_case: PreparationSettings) -> dict:
    note = f"{of_case.reference} gives the grid in its place" if channel == settings.reference else ""
    return {"case": case, "channel": channel, "status": "missing", "note": note}


def _row(case: str, channel: str, file: Path, image: sitk.Image, resampled: bool, notes: Sequence[str]) -> dict:
    return {
        "case": case,
        "channel": channel,
        "status": "done",
        "source": str(file),
        "size_before": "x".join(map(str, image.GetSize())),
        "spacing_before": "x".join(f"{mm:.4g}" for mm in image.GetSpacing()),
        "resampled": "yes" if resampled else "no",
        "note": "; ".join(notes),
    }


def _unforeseen(error: Exception) -> str:
    reason = str(error).strip().splitlines()
    return f"the case could not be prepared ({type(error).__name__}{': ' + reason[-1] if reason else ''})."
