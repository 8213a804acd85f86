"""Check that images of the formats that nnU-Net writes are there to their last byte.

Readers raise whatever they like for a file that is cut off; `complete.is_complete` takes that for a no.
"""

import gzip
import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
import tifffile
from PIL import Image

from nnunet_xmodal.files.kept_locale import kept_locale

_CHUNK = 1 << 20  # bytes
_GIPL_HEADER = 256  # bytes
_GIPL_BITS = {1: 1, 7: 8, 8: 8, 15: 16, 16: 16, 31: 32, 32: 32, 64: 32, 65: 64}  # by the format's number for a type


def nifti_is_complete(file: Path) -> bool:
    """Compare what the header promises with the bytes; a compressed file is read to its checksum."""
    image = nibabel.load(file)
    voxels = image.dataobj
    expected = voxels.offset + int(np.prod(voxels.shape, dtype=np.int64)) * voxels.dtype.itemsize
    return _size(Path(image.file_map["image"].filename)) >= expected


def nifti_has_its_length(file: Path) -> bool:
    """Compare what a header promises with the length that the last bytes of a gzip file tell, reading no voxels.

    A file that was cut off ends with any other four bytes; some programs write more than the header promises.
    """
    voxels = nibabel.load(file).dataobj
    expected = voxels.offset + int(np.prod(voxels.shape, dtype=np.int64)) * voxels.dtype.itemsize
    if not _is_gzip(file):
        return file.stat().st_size >= expected
    with open(file, "rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return struct.unpack("<I", stream.read())[0] == expected % 2**32


def gipl_is_complete(file: Path) -> bool:
    """Compare the header of Guy's Image Processing Lab with the bytes; ITK fills up what is missing."""
    with open(file, "rb") as plain, gzip.open(file) as compressed:
        header = (compressed if _is_gzip(file) else plain).read(_GIPL_HEADER)
    if len(header) < _GIPL_HEADER:
        return False
    *sides, kind = struct.unpack(">5H", header[:10])
    bits = int(np.prod([max(side, 1) for side in sides], dtype=np.int64)) * _GIPL_BITS.get(kind, 8)
    return _size(file) >= _GIPL_HEADER + bits // 8


def nrrd_is_complete(file: Path) -> bool:
    """Read the voxels with ITK, which raises where some are missing, and what is compressed to its checksum."""
    with open(file, "rb") as stream:
        header = b""
        while (line := stream.readline()).strip():
            header += line.lower()
        if b"encoding: gz" in header and b"data file" not in header:
            with gzip.GzipFile(fileobj=stream) as compressed:
                while compressed.read(_CHUNK):
                    pass
    return itk_reads(file)


def tiff_is_complete(file: Path) -> bool:
    """Read all pages; tifffile only logs where a page is missing."""
    heard = _Heard()
    log = logging.getLogger("tifffile")
    log.addHandler(heard)
    propagates, log.propagate = log.propagate, False
    try:
        with tifffile.TiffFile(file) as tiff:
            ends = [end for page in tiff.pages for end in _ends_of(page, tiff.tiff)]
            tiff.asarray()
    finally:
        log.removeHandler(heard)
        log.propagate = propagates
    return not heard.anything and max(ends, default=0) <= file.stat().st_size


def _ends_of(page: tifffile.TiffPage | tifffile.TiffFrame, layout: tifffile.tifffile.TiffFormat) -> Iterator[int]:
    """Yield where a page's data end, and where its directory ends, which may come behind them."""
    for offset, count in zip(page.dataoffsets, page.databytecounts):
        yield offset + count
    if isinstance(page, tifffile.TiffPage):
        yield page.offset + layout.tagnosize + len(page.tags) * layout.tagsize + layout.offsetsize
        for tag in page.tags:
            yield tag.valueoffset + tag.valuebytecount


class _Heard(logging.Handler):
    """Notes whether there was a warning."""

    anything = False

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Note that there was a warning."""
        self.anything = True


def picture_is_complete(file: Path) -> bool:
    """Read a PNG or BMP to its last byte."""
    with Image.open(file) as picture:
        picture.load()
        kind = picture.format
    content = file.read_bytes()
    if kind == "PNG":
        return content.rstrip(b"\0").endswith(b"IEND\xaeB`\x82")
    return kind != "BMP" or len(content) >= struct.unpack("<I", content[2:6])[0]


def itk_reads(file: Path) -> bool:
    """Return whether ITK reads the image; its reader of .mha raises where voxels are missing."""
    with kept_locale():
        return sitk.ReadImage(str(file)) is not None


def _is_gzip(file: Path) -> bool:
    with open(file, "rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _size(file: Path) -> int:
    """Bytes, without compression; reads a compressed file to its checksum."""
    if not _is_gzip(file):
        return file.stat().st_size
    size = 0
    with gzip.open(file) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
    return size
