"""Masks of an organ: found by the names of cases, from any model and on any grid."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.scan import read_volume_file
from nnunet_xmodal.files.soft_masks import inside_mask
from nnunet_xmodal.files.whole_labels import rounded_labels
from nnunet_xmodal.geometry.resampling import onto_grid

ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")


def mask_file(folder: Path, case: str, more_endings: Iterable[str] = ()) -> Path:
    """Return the mask file of a case, with the first ending of ENDINGS that exists.

    Args:
        more_endings: that come before them.

    Raises:
        XModalError: where there is none.
    """
    for ending in (*more_endings, *ENDINGS):
        file = folder / f"{case}{ending}"
        if file.is_file():
            return file
    raise XModalError(f"{folder / (case + ENDINGS[0])} is missing: --roi needs a mask for every case.")


def organ_on_grid(file: Path, grid: sitk.Image, values: Sequence[int] = (), by_nibabel: bool = False) -> sitk.Image:
    """Resample a mask onto the grid of an image.

    Args:
        file: the mask.
        grid: an image, whose voxels do not matter.
        values: of the organ; all from 0.5 on where none are named.
        by_nibabel: whether the grid is where nibabel puts its file.

    Returns:
        uint8 on the grid, by nearest neighbour, 1 in the organ.

    Raises:
        XModalError: for a file that is no volume or cannot be read (see `scan.read_volume_file`), an empty mask, and
            one that lies beside the grid.
    """
    mask = read_volume_file(file, by_nibabel=by_nibabel).image
    inside = sitk.GetImageFromArray(in_organ(sitk.GetArrayViewFromImage(mask), file, values))
    inside.CopyInformation(mask)
    on_grid = onto_grid(inside, grid, "nearest")
    if not sitk.GetArrayViewFromImage(on_grid).any():
        raise XModalError(
            f"{file} lies beside the image: none of it falls on a voxel; correct its origin and direction."
        )
    return on_grid


def in_organ(mask: np.ndarray, file: Path, values: Sequence[int] = ()) -> np.ndarray:
    """Return uint8, 1 in the organ.

    Args:
        file: of the mask, for the sentence.
        values: see `organ_on_grid`.

    Raises:
        XModalError: where there is no such voxel.
    """
    inside = np.isin(rounded_labels(mask), values) if values else inside_mask(mask)
    if not inside.any():
        what = f"has no voxel of {' or '.join(map(str, values))}" if values else "is empty"
        raise XModalError(f"{file} {what}: there is nothing to crop to.")
    return inside.astype(np.uint8)
