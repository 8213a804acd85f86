"""One case from its native scans to nnU-Net's files, in a process of its own."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.datasets.organ_mask import in_organ, organ_on_grid
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.complete import seems_complete
from nnunet_xmodal.files.scan import Scan, read_volume_file
from nnunet_xmodal.files.transform_writer import write_transform
from nnunet_xmodal.files.two_places import check_moved_alike
from nnunet_xmodal.files.volume_writer import write_volume
from nnunet_xmodal.geometry.organ_crop import Box, box_around, crop
from nnunet_xmodal.geometry.orientation import code_of, oriented
from nnunet_xmodal.geometry.resampling import coverage, onto_grid, outside_value, same_grid
from nnunet_xmodal.geometry.volume_grid import overlap
from nnunet_xmodal.preparation.dataset_json import FILE_ENDING
from nnunet_xmodal.preparation.figure import draw_case
from nnunet_xmodal.preparation.label_maps import mapped, values_of, volume_mm3
from nnunet_xmodal.preparation.png_labels import is_png_folder, read_png_labels
from nnunet_xmodal.preparation.record import FOLDER, Record
from nnunet_xmodal.preparation.report import fault_row
from nnunet_xmodal.preparation.series import read_series
from nnunet_xmodal.preparation.settings import LABEL, PreparationSettings
from nnunet_xmodal.preparation.similarity import mutual_information
from nnunet_xmodal.preparation.sources import SourceCase

_VOLUME_TO = 0.02  # of a label: by what resampling may change it without a word
_LITTLE = 0.5  # of the reference that a channel covers
_GAIN = 1.05  # interpolation alone changes mutual information by some per cent


@dataclass(frozen=True)
class CaseTask:
    """A case and all that its preparation needs to know.

    Attributes:
        dataset: folder of the raw dataset.
        roi_mask: what the case is cropped to, where that is not its label.
        previous: record of an earlier attempt, whose files are replaced unless the case was done with these inputs.
        overwrite: whether files that no record knows, and those of a case that is done, are replaced.
    """

    source: SourceCase
    settings: PreparationSettings
    dataset: Path
    fingerprint: str
    roi_mask: Path | None = None
    previous: Record | None = None
    overwrite: bool = False

    @property
    def mends(self) -> bool:
        """Return whether the case was done with these inputs and lacks files since: what is there stays."""
        previous = self.previous
        return bool(previous and previous.done and previous.fingerprint == self.fingerprint and not self.overwrite)


@dataclass
class _Channel:
    image: sitk.Image
    matrix: np.ndarray | None = None  # reference → image point in mm
    before: float | None = None
    after: float | None = None
    notes: list[str] = field(default_factory=list)


def prepare_case(task: CaseTask) -> None:
    """Write the case's files and its record; what could not be done is a sentence in the record."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # processes share the cores
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # of odd headers, over the progress bar
    record = Record(task.source.name, task.fingerprint)
    try:
        if task.source.faults:
            raise XModalError(" ".join(task.source.faults))
        _prepare(task, record)
        record.done = True
    except Exception as error:  # the other cases go on
        sentence = str(error) if isinstance(error, XModalError) else _unforeseen(error)
        rows = [fault_row(task.source.name, sentence)]
        if task.mends:
            record = replace(task.previous, done=False, rows=rows)
        else:
            for attempt in (record, *([task.previous] if task.previous else [])):
                attempt.delete_files(task.dataset)
            record = Record(task.source.name, task.fingerprint, rows=rows)
    record.write(task.dataset)


def _prepare(task: CaseTask, record: Record) -> None:
    source, settings = task.source, task.settings
    scans = {name: read_scan(source.images[name]) for name in settings.channels}
    _check_one_patient(scans)
    label = _read_label(source, settings, scans)
    turns = {name: code_of(scan.image.GetDirection()) for name, scan in scans.items()}
    if settings.orientation is not None:  # behind PNG labels, which lie like DICOM's slices
        scans = {name: replace(scan, image=oriented(scan.image, settings.orientation)) for name, scan in scans.items()}
        label = None if label is None else oriented(label, settings.orientation)
    reference = _reference(settings, scans, label)
    channels = {name: _Channel(scan.image) for name, scan in scans.items()}
    for name, channel in channels.items():
        if settings.orientation not in (None, turns[name]):
            channel.notes.append(f"turned from {turns[name]} to {settings.orientation}")
    label_notes = _two_places(channels, task)
    _place(channels, source, settings)
    _check_places(channels, source, settings, reference)
    if settings.register:
        _register(channels, settings, reference)

    on_grid = None if label is None else _label_on_grid(label, reference, source, scans, label_notes)
    box = _box(task, reference, on_grid)
    target = reference if box is None else crop(reference, box)
    if box is not None:
        _check_crop(channels, target)
    images = {
        name: onto_grid(c.image, target, "linear", c.matrix, outside_value(name, c.image))
        if box is None or c.matrix is not None or not same_grid(c.image, reference)
        else onto_grid(crop(c.image, box), target, "linear")
        for name, c in channels.items()
    }
    if on_grid is not None and box is not None:
        whole, on_grid = volume_mm3(on_grid), crop(on_grid, box)
        if whole and volume_mm3(on_grid) < whole:
            label_notes.append(f"the crop leaves out {100 * (1 - volume_mm3(on_grid) / whole):.1f} % of the label")

    record.split = source.split or ("Tr" if label is not None else settings.unlabelled)
    record.grid = {
        "size": reference.GetSize(),
        "spacing": reference.GetSpacing(),
        "origin": reference.GetOrigin(),
        "direction": reference.GetDirection(),
    }
    record.box = None if box is None else box._asdict()
    transforms = _transforms(channels, settings, reference, source.name)
    record.rows = _rows(source, channels, reference, transforms, label, label_notes)
    _write(task, record, images, on_grid, transforms)


def read_scan(path: Path) -> Scan:
    """Read a file, or a DICOM folder.

    Raises:
        XModalError: see `scan.read_volume_file` and `series.read_series`.
    """
    return read_series(path) if path.is_dir() else read_volume_file(path)


def _check_one_patient(scans: dict[str, Scan]) -> None:
    known = {name: scan.patient for name, scan in scans.items() if scan.patient}
    first = next(iter(known), None)
    for name, patient in known.items():
        if patient != known[first]:
            raise XModalError(
                f"{first} is of the patient {known[first]} but {name} of {patient}: sort the scans by patient."
            )


def _read_label(source: SourceCase, settings: PreparationSettings, scans: dict[str, Scan]) -> sitk.Image | None:
    if source.label is None:
        return None
    if is_png_folder(source.label):
        first = [scans[settings.fixed], *scans.values()]
        image = read_png_labels(source.label, first)
    elif source.label.is_dir():
        image = read_series(source.label).image
    else:
        image = read_volume_file(source.label, settings.label_component).image
    return mapped(image, source.label, settings.label_map, settings.labels)


def _reference(settings: PreparationSettings, scans: dict[str, Scan], label: sitk.Image | None) -> sitk.Image:
    if settings.reference != LABEL:
        return scans[settings.reference].image
    if label is None:
        raise XModalError("there is no label, whose grid --reference label asks for: give one, or another reference.")
    return label


def _two_places(channels: dict[str, _Channel], task: CaseTask) -> list[str]:
    """Notes for channels and the label that ITK and nibabel put at two places, with all files of the case alike."""
    source = task.source
    files = [*source.images.values(), source.label, task.roi_mask]
    found = check_moved_alike([file for file in files if file is not None and file.is_file()])
    for name, channel in channels.items():
        if source.images[name] in found:
            channel.notes.append(f"lies at two places: {found[source.images[name]].described()}")
    return [f"lies at two places: {found[source.label].described()}"] if source.label in found else []


def _place(channels: dict[str, _Channel], source: SourceCase, settings: PreparationSettings) -> None:
    """By transforms and landmarks, where the case has them."""
    if not source.transforms and not source.landmarks:
        return
    # torch takes seconds to import, and few datasets need it
    from nnunet_xmodal.preparation.given_transform import fit_landmarks, read_transform
    from nnunet_xmodal.preparation.landmarks import read_landmarks

    for name, channel in channels.items():
        if name == settings.fixed:
            continue
        if name in source.transforms:
            channel.matrix = read_transform(source.transforms[name])
            channel.notes.append(f"aligned by {source.transforms[name].name}")
        elif name in source.landmarks:
            if settings.fixed not in source.landmarks:
                raise XModalError(f"{name} has landmarks but {settings.fixed} has none: give those of both.")
            files = source.landmarks[settings.fixed], source.landmarks[name]
            channel.matrix, left = fit_landmarks(*map(read_landmarks, files))
            channel.notes.append(f"aligned by landmarks, {left:.2f} mm (root mean square) apart after it")


def _check_places(
    channels: dict[str, _Channel], source: SourceCase, settings: PreparationSettings, reference: sitk.Image
) -> None:
    for name, channel in channels.items():
        covered = coverage(channel.image, reference, channel.matrix)
        identity = np.eye(4) if channel.matrix is None else channel.matrix
        if covered == 0 and not overlap(reference, channel.image, identity):
            raise XModalError(
                f"{name} ({source.images[name].name}) does not overlap with {settings.reference}: they are of other "
                "patients or sessions, or need a transform or landmarks."
            )
        if covered < _LITTLE:
            channel.notes.append(f"covers {100 * covered:.0f} % of {settings.reference}")


def _check_crop(channels: dict[str, _Channel], target: sitk.Image) -> None:
    """A channel may cover most of the reference and miss the organ."""
    for channel in channels.values():
        covered = coverage(channel.image, target, channel.matrix)
        if covered < _LITTLE:
            channel.notes.append(f"covers {100 * covered:.0f} % of the crop")


def _register(channels: dict[str, _Channel], settings: PreparationSettings, reference: sitk.Image) -> None:
    from nnunet_xmodal.preparation.alignment import align  # imports torch, see above

    fixed = onto_grid(channels[settings.fixed].image, reference, "linear")
    for name, channel in channels.items():
        if name == settings.fixed:
            continue
        start = np.eye(4) if channel.matrix is None else channel.matrix
        moved = onto_grid(channel.image, reference, "linear", channel.matrix)
        found = start @ align(fixed, moved)
        again = onto_grid(channel.image, reference, "linear", found)
        inside = _seen(channel.image, reference, start) & _seen(channel.image, reference, found)
        arrays = [sitk.GetArrayViewFromImage(image) for image in (fixed, moved, again)]
        channel.before, channel.after = (mutual_information(arrays[0], array, inside) for array in arrays[1:])
        if not channel.after > _GAIN * channel.before:
            channel.notes.append("registration found nothing much better and was left out")
            continue
        channel.matrix = found
        middle = np.array(reference.TransformContinuousIndexToPhysicalPoint([(s - 1) / 2 for s in reference.GetSize()]))
        shift = float(np.linalg.norm((found - start)[:3] @ [*middle, 1]))
        channel.notes.append(f"registration moved its middle by {shift:.2f} mm")


def _seen(image: sitk.Image, reference: sitk.Image, matrix: np.ndarray) -> np.ndarray:
    ones = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(image)
    return sitk.GetArrayFromImage(onto_grid(ones, reference, "nearest", matrix)) > 0


def _label_on_grid(
    label: sitk.Image, reference: sitk.Image, source: SourceCase, scans: dict[str, Scan], notes: list[str]
) -> sitk.Image:
    alike = [name for name, scan in scans.items() if scan.image.GetSize() == label.GetSize()]
    if alike and not any(same_grid(label, scan.image) for scan in scans.values()):
        notes.append(f"has as many voxels as {alike[0]} but another place in space: its header may be wrong")
    on_grid = onto_grid(label, reference, "nearest")
    before, after = volume_mm3(label), volume_mm3(on_grid)
    if before and not after:
        raise XModalError(
            f"{source.label} lies beside the reference, on a wrong grid: none of it falls on a voxel; correct its "
            "origin and direction."
        )
    if before and abs(after / before - 1) > _VOLUME_TO:
        notes.append(f"has {100 * after / before:.1f} % of its volume on the reference's grid")
    return on_grid


def _box(task: CaseTask, reference: sitk.Image, label: sitk.Image | None) -> Box | None:
    settings = task.settings
    if settings.roi is None:
        return None
    if task.roi_mask is not None:
        return box_around(organ_on_grid(task.roi_mask, reference, settings.roi_values), settings.margin_mm)
    values = values_of(settings.roi, settings.labels or {})
    if values is None or label is None:
        raise XModalError(f"there is no label to crop to {settings.roi}: give a folder of masks as --roi.")
    inside = sitk.GetImageFromArray(in_organ(sitk.GetArrayViewFromImage(label), task.source.label, values))
    inside.CopyInformation(label)
    return box_around(inside, settings.margin_mm)


def _transforms(
    channels: dict[str, _Channel], settings: PreparationSettings, reference: sitk.Image, case: str
) -> dict[str, tuple[str, sitk.Transform]]:
    """Channel → file and transform."""
    moved = {name: channel.matrix for name, channel in channels.items() if channel.matrix is not None}
    if not moved:
        return {}
    from nnunet_xmodal.preparation.alignment import as_transform

    return {
        name: (
            f"{FOLDER}/transforms/{case}_{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}.tfm",
            as_transform(matrix, reference),
        )
        for name, matrix in moved.items()
    }


def _rows(source, channels, reference, transforms, label, label_notes) -> list[dict]:
    rows = []
    for name, channel in channels.items():
        resampled = channel.matrix is not None or not same_grid(channel.image, reference)
        row = _row(source.name, name, source.images[name], channel.image, resampled, channel.notes)
        row["transform"] = transforms[name][0] if name in transforms else ""
        for key, value in (("similarity_before", channel.before), ("similarity_after", channel.after)):
            row[key] = "" if value is None else f"{value:.4f}"
        rows.append(row)
    if label is not None:
        resampled = not same_grid(label, reference)
        rows.append(_row(source.name, LABEL, source.label, label, resampled, label_notes))
    return rows


def _row(case: str, channel: str, file: Path, image: sitk.Image, resampled: bool, notes: list[str]) -> dict:
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


def _write(task: CaseTask, record: Record, images: dict, label: sitk.Image | None, transforms: dict) -> None:
    case, split, folder = task.source.name, record.split, task.dataset
    volumes = {f"images{split}/{case}_{number:04d}{FILE_ENDING}": image for number, image in enumerate(images.values())}
    if label is not None:
        volumes[f"labels{split}/{case}{FILE_ENDING}"] = label
    picture = f"{FOLDER}/figures/{case}.png"
    files = [*volumes, *(file for file, _ in transforms.values()), picture]
    known = task.previous.files if task.previous else []
    for file in files:
        if file not in known and (folder / file).exists() and not task.overwrite:
            raise XModalError(f"{folder / file} exists and no record knows it: move it away, or give --overwrite.")
    kept = {file for file in files if task.mends and seems_complete(folder / file)}
    for file in set(known) - set(files):
        (folder / file).unlink(missing_ok=True)
    record.files = files
    if not task.mends:
        record.write(folder)  # not done yet: an interrupted run knows what it may replace
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
    for file, image in volumes.items():
        if file not in kept:
            write_volume(image, folder / file)
    for file, transform in transforms.values():
        if file not in kept:
            write_transform(transform, folder / file)
    draw_case(
        {name: sitk.GetArrayViewFromImage(image) for name, image in images.items()},
        None if label is None else sitk.GetArrayViewFromImage(label),
        next(iter(images.values())).GetSpacing()[::-1],
        folder / picture,
    )


def _unforeseen(error: Exception) -> str:
    reason = str(error).strip().splitlines()
    return f"the case could not be prepared ({type(error).__name__}{': ' + reason[-1] if reason else ''})."
