"""Read the scans and the label of one case."""

from collections.abc import Mapping
from pathlib import Path

import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dicom_kinds import is_segmentation
from nnunet_xmodal.files.dicom_seg import patient_of, read_dicom_seg
from nnunet_xmodal.files.scan import Scan, read_volume_file
from nnunet_xmodal.files.two_places import check_moved_alike
from nnunet_xmodal.preparation.case_task import CaseTask
from nnunet_xmodal.preparation.label_maps import mapped
from nnunet_xmodal.preparation.png_labels import is_png_folder, read_png_labels
from nnunet_xmodal.preparation.series import read_series
from nnunet_xmodal.preparation.settings import PreparationSettings
from nnunet_xmodal.preparation.sources import SourceCase


def read_scan(path: Path) -> Scan:
    """Read a file, or a DICOM folder.

    Raises:
        XModalError: see `scan.read_volume_file` and `series.read_series`.
    """
    return read_series(path) if path.is_dir() else read_volume_file(path)


def read_scans(source: SourceCase, settings: PreparationSettings) -> dict[str, Scan]:
    """Read all channels of a case, in the order of their numbers.

    Raises:
        XModalError: see `read_scan`; for scans of two patients.
    """
    scans = {name: read_scan(source.images[name]) for name in settings.channels}
    known = [(name, scan.patient) for name, scan in scans.items() if scan.patient]
    for name, patient in known:
        _check_same_patient(name, patient, *known[0])
    return scans


def _check_same_patient(name: str, patient: str, first: str, expected: str) -> None:
    if patient != expected:
        raise XModalError(f"{first} is of the patient {expected} but {name} of {patient}: sort the scans by patient.")


def read_label(source: SourceCase, settings: PreparationSettings, scans: Mapping[str, Scan]) -> sitk.Image | None:
    """Read the label map, or DICOM segmentation, of a case with its new values; None for a case without.

    Args:
        scans: of the case as they were read, one of which PNG slices belong to.

    Raises:
        XModalError: see `read_scan`, `read_dicom_seg`, `png_labels.read_png_labels` and `label_maps.mapped`; for a
            folder of several segmentations, and a label of another patient.
    """
    if source.label is None:
        return None
    assert settings.labels is not None  # named by the request where any case has a label
    segmentation = _segmentation_in(source.label)
    if segmentation is not None:
        image = read_dicom_seg(segmentation, settings.labels, settings.label_map)
        _check_of_scans(patient_of(segmentation), scans)
        return mapped(image, segmentation, settings.label_map, settings.labels)
    if is_png_folder(source.label):
        first = [scans[settings.fixed], *scans.values()]
        image = read_png_labels(source.label, first)
    else:
        is_folder = source.label.is_dir()
        scan = read_series(source.label) if is_folder else read_volume_file(source.label, settings.label_component)
        _check_of_scans(scan.patient, scans)
        image = scan.image
    return mapped(image, source.label, settings.label_map, settings.labels)


def _check_of_scans(patient: str | None, scans: Mapping[str, Scan]) -> None:
    known = [(name, scan.patient) for name, scan in scans.items() if scan.patient]
    if patient and known:
        _check_same_patient("the label", patient, *known[0])


def _segmentation_in(label: Path) -> Path | None:
    """Return the DICOM segmentation that a label is, or that is alone in a label's folder."""
    if label.is_file():
        return label if is_segmentation(label) else None
    files = [file for file in sorted(label.iterdir()) if file.is_file() and file.name[0] != "."]
    found = [file for file in files if is_segmentation(file)]
    if len(found) > 1:
        raise XModalError(
            f"{label} holds {len(found)} DICOM segmentations, {found[0].name} and {found[1].name} among them: narrow "
            "the label's pattern to one file."
        )
    return found[0] if found else None


def two_places(task: CaseTask) -> dict[Path, str]:
    """Find files that ITK and nibabel put at two places, as all files of the case are then.

    Returns:
        File → a note on it.

    Raises:
        XModalError: see `two_places.check_moved_alike`.
    """
    files = [*task.source.images.values(), task.source.label, task.roi_mask]
    found = check_moved_alike([file for file in files if file is not None and file.is_file()])
    return {file: f"lies at two places: {shift.described()}" for file, shift in found.items()}
