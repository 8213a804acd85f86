"""Check that files are there to their last byte: after a full disk or a killed process they are not."""

import gzip
import json
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import blosc2
import SimpleITK as sitk

from nnunet_xmodal.files.complete_images import (
    gipl_is_complete,
    itk_reads,
    nifti_has_its_length,
    nifti_is_complete,
    nrrd_is_complete,
    picture_is_complete,
    tiff_is_complete,
)


def is_complete(file: str | Path) -> bool:
    """Read a file to its end.

    Compressed streams have to end with the right checksum, headers to agree with the number of bytes, JSON, CSV,
    transforms and pickles to be closed. Nothing that a pickle names is imported.

    Returns:
        False also for a file that is missing, and for one of a format that nobody here can read.
    """
    file = Path(file)
    try:
        return file.is_file() and _check_of(file)(file)
    except MemoryError:
        raise
    except Exception:  # every library raises its own where a file ends too early
        return False


def seems_complete(file: str | Path) -> bool:
    """Look at both ends of a NIfTI file; where they do not agree, and of any other format, read it to its end.

    A volume that was cut off is noticed, a wrong voxel is not: for whole datasets, which take minutes to read.
    """
    file = Path(file)
    try:
        if file.name.lower().endswith((".nii", ".nii.gz")) and nifti_has_its_length(file):
            return True
    except MemoryError:
        raise
    except Exception:  # as above
        return False
    return is_complete(file)


def _check_of(file: Path) -> Callable[[Path], bool]:
    name = file.name.lower()
    return next((check for endings, check in _CHECKS.items() if name.endswith(endings)), itk_reads)


def json_is_complete(file: Path) -> bool:
    """Return whether a file holds JSON; raise where it does not."""
    json.loads(file.read_text(encoding="utf-8"))
    return True


def _zip_is_complete(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        return archive.testzip() is None


def _blosc_is_complete(file: Path) -> bool:
    return blosc2.open(str(file), mode="r") is not None  # its last bytes are looked at


def _pickle_is_complete(file: Path) -> bool:
    with open(file, "rb") as stream:
        for _ in pickletools.genops(stream):  # ends with STOP, or raises
            pass
        return not stream.read(1)


def _table_is_complete(file: Path) -> bool:
    return file.read_bytes().endswith(b"\n")


def _transform_is_complete(file: Path) -> bool:
    """ITK reads numbers that were cut short, and transforms without the line of fixed parameters."""
    text = file.read_text(encoding="utf-8")
    transforms = re.findall(r"^Transform: (?!Composite)", text, re.MULTILINE)
    whole = len(transforms) == text.count("\nFixedParameters:") and text.endswith("\n")
    return whole and sitk.ReadTransform(str(file)) is not None


def _gzip_is_complete(file: Path) -> bool:
    with gzip.open(file) as stream:
        while stream.read(1 << 20):
            pass
    return file.stat().st_size > 0  # nothing is read as the compression of nothing


_CHECKS: dict[tuple[str, ...], Callable[[Path], bool]] = {
    (".nii", ".nii.gz", ".img", ".img.gz", ".hdr", ".mgh", ".mgz"): nifti_is_complete,
    (".gipl", ".gipl.gz"): gipl_is_complete,
    (".nrrd",): nrrd_is_complete,
    (".tif", ".tiff"): tiff_is_complete,
    (".png", ".bmp"): picture_is_complete,
    (".json",): json_is_complete,
    (".npz", ".pth", ".zip"): _zip_is_complete,
    (".b2nd",): _blosc_is_complete,
    (".pkl",): _pickle_is_complete,
    (".csv",): _table_is_complete,
    (".tfm",): _transform_is_complete,
    (".gz",): _gzip_is_complete,
}
"""By ending, the first that fits; ITK reads the others, and raises where a .mha is cut off."""
