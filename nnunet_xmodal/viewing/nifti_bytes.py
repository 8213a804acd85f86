"""A volume as the content of a `.nii.gz`, which is what the viewer reads."""

import gzip
from collections.abc import Mapping
from math import ceil

import nibabel
import numpy as np

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LONGEST = 2048  # voxels of a side that every WebGL draws; of longer ones, of pictures, every n-th is shown
_QUICK = 4  # level of gzip: pages are looked at, not kept


def nifti_bytes(volume: np.ndarray, geometry: Mapping) -> bytes:
    """Return a volume as NIfTI, compressed.

    Args:
        volume: `(z, y, x)`, or `(y, x)`.
        geometry: `spacing` in mm in the order of the axes, and where known `origin` (LPS mm) and `direction` (cosines)
            in x, y, z; see `files.images.read_image`.
    """
    volume = volume.reshape((1,) * (3 - volume.ndim) + volume.shape)
    spacing = np.ones(3)
    spacing[3 - len(geometry["spacing"]) :] = geometry["spacing"]
    sides: tuple[int, ...] = volume.shape
    steps = [ceil(side / _LONGEST) for side in sides]
    volume, spacing = volume[tuple(slice(None, None, step) for step in steps)], spacing * steps
    affine = np.eye(4)
    direction = np.asarray(geometry.get("direction", np.eye(3).ravel()), dtype=float)
    axes = int(round(len(direction.ravel()) ** 0.5))
    affine[:axes, :axes] = direction.reshape(axes, axes)
    affine[:3, :3] *= spacing[::-1]
    origin = geometry.get("origin", (0.0, 0.0, 0.0))
    affine[: len(origin), 3] = origin
    image = nibabel.Nifti1Image(_kept(volume).T, _TO_RAS @ affine)
    return gzip.compress(image.to_bytes(), _QUICK, mtime=0)


def _kept(volume: np.ndarray) -> np.ndarray:
    """Return the values in a type that NIfTI and NiiVue have; 64 bits are more than anybody sees."""
    if volume.dtype == bool:
        return volume.astype(np.uint8)
    if volume.dtype.kind in "iu" and volume.dtype.itemsize <= 2:
        return volume
    if volume.dtype.kind in "iu" and -(2**15) <= volume.min(initial=0) and volume.max(initial=0) < 2**15:
        return volume.astype(np.int16)
    return volume.astype(np.float32)
