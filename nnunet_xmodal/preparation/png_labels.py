"""A label map as a folder of PNG slices, one per slice of a DICOM series, as CHAOS has them."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.scan import Scan


def is_png_folder(path: Path) -> bool:
    """Return whether a folder holds PNG files."""
    return path.is_dir() and any(file.suffix.lower() == ".png" for file in path.iterdir())


def read_png_labels(folder: Path, scans: Sequence[Scan]) -> sitk.Image:
    """Read the PNG slices of a label map onto the grid of a DICOM series.

    A PNG belongs to the DICOM file of the same name. Where the names differ, the first PNG belongs to the first DICOM
    file, both by name, not by place: many series are numbered from the head down. Slices without a PNG hold nothing.

    Args:
        scans: the first whose files have these names counts, else the first of them that is a series.

    Returns:
        On the grid of that scan.

    Raises:
        XModalError: without a DICOM series, for another number of slices, another size, and an unreadable file.
    """
    series = [scan for scan in scans if scan.slices]
    if not series:
        raise XModalError(f"the PNG labels in {folder} have no place of their own: a channel has to be a DICOM series.")
    files = {file.stem: file for file in folder.iterdir() if file.suffix.lower() == ".png" and file.name[0] != "."}
    scan = next((s for s in series if set(files) <= {slice_.stem for slice_ in s.slices}), None)
    if scan is None:
        scan = series[0]
        if len(files) != len(scan.slices):
            raise XModalError(
                f"{folder} holds {len(files)} PNG labels for {len(scan.slices)} DICOM slices, and other names: give "
                "one for each slice."
            )
        by_name = sorted((slice_.stem for slice_ in scan.slices), key=_natural)
        files = {stem: files[name] for stem, name in zip(by_name, sorted(files, key=_natural))}
    labels = np.zeros(scan.image.GetSize()[::-1], np.uint16)  # z y x; a PNG has up to 16 bits
    for index, slice_ in enumerate(scan.slices):
        if slice_.stem in files:
            labels[index] = _pixels(files[slice_.stem], labels.shape[1:])
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(scan.image)
    return image


def _pixels(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    except RuntimeError as error:
        raise XModalError(f"{file} cannot be read: replace it by an intact file.") from error
    if pixels.shape != shape:
        raise XModalError(f"{file} has {pixels.shape[::-1]} pixels but its DICOM slice {shape[::-1]}: correct it.")
    return pixels


def _natural(name: str) -> list:
    """`slice_10` behind `slice_9`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
