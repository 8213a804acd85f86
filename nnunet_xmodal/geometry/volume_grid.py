"""Where the voxels of a SimpleITK image lie, for many points at once, and whether two images meet.

Indices and points are x, y, z; points are in LPS millimetres.
"""

import numpy as np
import SimpleITK as sitk

_LATTICE = 24  # points along each axis of a box


def index_to_physical(image: sitk.Image) -> np.ndarray:
    """Return the matrix `(4, 4)` float64: continuous index x, y, z → physical point in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def to_physical(image: sitk.Image, indices: np.ndarray) -> np.ndarray:
    """Return the physical points in mm of continuous indices `(…, 3)`, x, y, z."""
    matrix = index_to_physical(image)
    return indices @ matrix[:3, :3].T + matrix[:3, 3]


def to_index(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    """Return the continuous indices x, y, z of physical points `(…, 3)` in mm."""
    matrix = np.linalg.inv(index_to_physical(image))
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def lattice(matrix: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return physical points `(N, 3)` all over the box between two corners, which `matrix` (4, 4) places in space."""
    axes = [np.linspace(first, last, _LATTICE) for first, last in zip(low, high)]
    corners = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return corners @ matrix[:3, :3].T + matrix[:3, 3]


def any_inside(image: sitk.Image, points: np.ndarray) -> bool:
    """Tell whether one of the physical points `(N, 3)` lies within the outer voxels' centres."""
    index = to_index(image, points)
    return bool(((index >= 0) & (index <= np.array(image.GetSize()) - 1)).all(-1).any())


def overlap(fixed: sitk.Image, moving: sitk.Image, transform: np.ndarray) -> bool:
    """Tell whether the extents meet when `transform` (4, 4) maps fixed to moving points."""

    def points(image: sitk.Image) -> np.ndarray:
        return lattice(index_to_physical(image), np.zeros(3), np.array(image.GetSize()) - 1.0)

    def mapped(matrix: np.ndarray, of: np.ndarray) -> np.ndarray:
        return of @ matrix[:3, :3].T + matrix[:3, 3]

    # both ways: a thin slab may slip through the points of a large box
    there, back = mapped(transform, points(fixed)), mapped(np.linalg.inv(transform), points(moving))
    return any_inside(moving, there) or any_inside(fixed, back)
