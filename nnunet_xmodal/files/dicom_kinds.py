"""Tell DICOM files with images from others by the class in their first lines, without a library."""

import struct
from pathlib import Path

from nnunet_xmodal.errors import XModalError

_PREAMBLE = 128
_LONG = (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN")  # representations whose length takes four bytes
_STORAGE = "1.2.840.10008.5.1.4.1.1."
SEGMENTATION, LABELMAP = f"{_STORAGE}66.4", f"{_STORAGE}66.7"
CONTOURS = f"{_STORAGE}481.3"
"""RTSTRUCT."""

_WITHOUT_PIXELS = (
    "1.2.840.10008.1.3.10",  # DICOMDIR
    *(
        _STORAGE + kind
        for kind in (
            "4.2",  # MR spectroscopy
            "9",  # waveforms
            "11",  # presentation states
            "66",  # raw data, registrations, fiducials, surfaces, tracts
            "67",  # real world values
            "68",  # surface scans
            "77.1.5.3",  # stereometric relationship
            "78",  # measurements of the eye
            "79.1",
            "80.1",
            "88",  # structured reports, key objects, procedure logs
            "104",  # documents
            "131",  # displays
            "200",  # protocols
            "201",  # inventories
            "481",  # structures, plans and records of radiotherapy
        )
    ),
)
_WITH_PIXELS = tuple(
    _STORAGE + kind
    for kind in (
        "66.4",  # segmentations
        "66.7",
        "66.8",
        "481.1",  # images and doses of radiotherapy
        "481.2",
        "481.23",
        "481.24",
    )
)


def is_dicom(file: Path) -> bool:
    """Return whether a file begins as DICOM files do."""
    with open(file, "rb") as opened:
        return opened.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def storage_class(file: Path) -> str:
    """Return the UID of a DICOM file's class; "" where its beginning does not tell."""
    with open(file, "rb") as opened:
        head = opened.read(_PREAMBLE + 4 + 1024)[_PREAMBLE + 4 :]
    place = 0
    while place + 8 <= len(head) and head[place : place + 2] == b"\x02\x00":  # always little endian, with its type
        element, kind = struct.unpack_from("<H2s", head, place + 2)
        if kind in _LONG:
            if place + 12 > len(head):
                break
            (length,) = struct.unpack_from("<I", head, place + 8)
            place += 12
        else:
            (length,) = struct.unpack_from("<H", head, place + 6)
            place += 8
        if element == 0x0002:
            return head[place : place + length].decode("ascii", "replace").strip("\0 ")
        place += length
    return ""


def is_without_pixels(storage: str) -> bool:
    """Return whether files of a class hold no image, as reports, key objects, raw data and vendors' private data.

    Args:
        storage: UID of the class.
    """
    if storage in _WITH_PIXELS:
        return False
    return any(storage == kind or storage.startswith(f"{kind}.") for kind in _WITHOUT_PIXELS)


def is_of_a_vendor(storage: str) -> bool:
    """Return whether a class is none of the standard's; such files may hold anything."""
    return bool(storage) and not storage.startswith("1.2.840.10008.")


def is_segmentation(file: Path) -> bool:
    """Return whether a file is a DICOM segmentation."""
    return file.is_file() and is_dicom(file) and storage_class(file) in (SEGMENTATION, LABELMAP)


def refuse_contours(file: Path) -> None:
    """Say of an RTSTRUCT what it is and what makes voxels of it; other files pass.

    Raises:
        XModalError: for an RTSTRUCT.
    """
    if file.is_file() and is_dicom(file) and storage_class(file) == CONTOURS:
        raise XModalError(
            f"{file} is an RTSTRUCT, contours on the slices of a series and no voxels: make a label map of it on that "
            "series, for example with 3D Slicer (SlicerRT), plastimatch convert or dcmrtstruct2nii, and give that."
        )
