"""Volumes with a place in physical space of their own, read by SimpleITK; what cannot be registered is said.

nnU-Net's reader, and the check of training images, want all channels on one grid. Here every file stands for itself.
"""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.data.image_files import read_image
from nnunet_xmodal.errors import XModalError

_ORTHOGONAL_TO = 1e-4  # as `geometry.grid_chain`
_LATTICE = 24  # points along each axis of a box
_LARGEST_RATIO = 20  # of the extents of two images of one organ


def read_volume(file: Path, dataset_json: dict) -> sitk.Image:
    """A volume of at least two voxels along each axis, in the pixel type of the file.

    Args:
        dataset_json: names nnU-Net's reader, with which the voxels of formats other than NIfTI are looked at.

    Raises:
        XModalError: for a file that cannot be read in full, holds NaN or infinity, is no volume of one channel, or has
            axes that are not at right angles.
    """
    array, geometry = read_image(file, dataset_json, is_label=False)
    direction = np.asarray(geometry.get("direction", np.eye(3)), float)
    if direction.size == 9:  # before ITK's reader, which forgets shear
        _check_axes(file, direction)
    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise XModalError(f"{file} cannot be read ({reason}): replace it by an intact file.") from error
    sides = image.GetSize()
    shown = "×".join(map(str, sides))
    numbers = image.GetNumberOfComponentsPerPixel()
    if len(sides) != 3 or numbers != 1:
        raise XModalError(
            f"{file} holds {shown} voxels of {numbers} channels, which is no single volume: give one per file."
        )
    if min(sides) < 2:
        raise XModalError(f"{file} is a single slice ({shown} voxels): registration needs volumes.")
    if not np.isfinite(array).all():
        raise XModalError(f"{file} holds NaN or infinite voxels: replace them, for example by zero.")
    _check_axes(file, np.asarray(image.GetDirection()))
    return image


def index_to_physical(image: sitk.Image) -> np.ndarray:
    """`(4, 4)` float64: continuous index x, y, z → physical point in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def to_physical(image: sitk.Image, indices: np.ndarray) -> np.ndarray:
    """Physical points in mm of continuous indices `(…, 3)`, x, y, z."""
    matrix = index_to_physical(image)
    return indices @ matrix[:3, :3].T + matrix[:3, 3]


def to_index(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    """Continuous indices x, y, z of physical points `(…, 3)` in mm."""
    matrix = np.linalg.inv(index_to_physical(image))
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def lattice(matrix: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Physical points `(N, 3)` all over the box between two corners, whose place in space `matrix` (4, 4) tells."""
    axes = [np.linspace(first, last, _LATTICE) for first, last in zip(low, high)]
    corners = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return corners @ matrix[:3, :3].T + matrix[:3, 3]


def any_inside(image: sitk.Image, points: np.ndarray) -> bool:
    """Whether one of the physical points `(N, 3)` lies within the outer voxels' centres."""
    index = to_index(image, points)
    return bool(((index >= 0) & (index <= np.array(image.GetSize()) - 1)).all(-1).any())


def overlap(fixed: sitk.Image, moving: sitk.Image, transform: np.ndarray) -> bool:
    """Whether the extents meet when `transform` (4, 4) maps fixed to moving points."""

    def points(image: sitk.Image) -> np.ndarray:
        return lattice(index_to_physical(image), np.zeros(3), np.array(image.GetSize()) - 1.0)

    def mapped(matrix: np.ndarray, of: np.ndarray) -> np.ndarray:
        return of @ matrix[:3, :3].T + matrix[:3, 3]

    # both ways: a thin slab may slip through the points of a large box
    there, back = mapped(transform, points(fixed)), mapped(np.linalg.inv(transform), points(moving))
    return any_inside(moving, there) or any_inside(fixed, back)


def check_same_unit(fixed: sitk.Image, moving: sitk.Image, fixed_file: Path, moving_file: Path) -> None:
    """
    Raises:
        XModalError: where the diagonal of one volume is more than twenty times that of the other.
    """
    of_fixed, of_moving = (float(np.linalg.norm(np.multiply(i.GetSize(), i.GetSpacing()))) for i in (fixed, moving))
    ratio = of_fixed / of_moving
    if not 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO:
        raise XModalError(
            f"{moving_file} measures {of_moving:.3g} mm from corner to corner and {fixed_file} {of_fixed:.3g} mm: if "
            "one of them is not in millimetres, correct its spacing."
        )


def _check_axes(file: Path, direction: np.ndarray) -> None:
    axes = direction.reshape(3, 3)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=_ORTHOGONAL_TO):  # also NaN, of a spacing of 0
        raise XModalError(
            f"the axes of {file}, with direction cosines {axes.round(4).tolist()}, are not three at right angles: "
            "resample it onto a grid whose axes are, no rigid transform would stay one."
        )
