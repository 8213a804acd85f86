"""Write images and label maps, and read them back before they get their names.

Neither ITK nor niftilib notices that a disk is full: `sitk.WriteImage` returns as if all were well and leaves a file
that is cut off or empty.
"""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.complete import is_complete

if TYPE_CHECKING:  # importing nnU-Net takes seconds
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

_NIFTI = (".nii", ".nii.gz")


def write_volume(image: sitk.Image, file: str | Path, compress: bool = False) -> None:
    """Write an image in the format of the file's ending.

    Args:
        compress: whether formats that leave the choice compress; `.nii.gz` always is.

    Raises:
        XModalError: if the file cannot be written, or does not read back voxel by voxel, as on a full disk; see
            `write_atomically`.
    """
    expected = sitk.GetArrayViewFromImage(image)
    write_atomically(
        file,
        lambda name: sitk.WriteImage(image, name, compress),
        lambda name: is_complete(name) and _equal(_voxels(name), expected),
    )


def write_label_map(
    segmentation: np.ndarray, file: str | Path, properties: Mapping, writer: "BaseReaderWriter"
) -> None:
    """Write a label map `(z, y, x)` as one of nnU-Net's readers and writers does.

    Args:
        properties: what the reader has noted about the case.

    Raises:
        XModalError: see `write_volume`.
    """
    write_atomically(
        file,
        lambda name: writer.write_seg(segmentation, name, properties),
        lambda name: is_complete(name) and _equal(writer.read_seg(name)[0], segmentation),
    )


def _voxels(file: str) -> np.ndarray:
    """As written; by nibabel for NIfTI, of which ITK's reader makes NaN zero and fills up what is missing."""
    if file.lower().endswith(_NIFTI):
        content = Path(file).read_bytes()
        content = gzip.decompress(content) if file.lower().endswith(".gz") else content
        return np.asanyarray(nibabel.Nifti1Image.from_bytes(content).dataobj).T
    return sitk.GetArrayFromImage(sitk.ReadImage(file))


def _equal(read: np.ndarray, written: np.ndarray) -> bool:
    """Axes of length one may have been added or dropped."""
    sides = [tuple(side for side in array.shape if side > 1) for array in (read, written)]
    if sides[0] != sides[1]:
        return False
    read = read.reshape(written.shape)
    return np.array_equal(read, written, equal_nan=read.dtype.kind in "fc" and written.dtype.kind in "fc")
