"""Where the voxels of a SimpleITK image lie, for many points at once, and whether two images meet.

Indices and points are x, y, z; points are in LPS millimetres.
"""

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.geometry.affine import applied

_LATTICE = 24  # points along each axis of a box


def index_to_physical(image: sitk.Image) -> np.ndarray:
    """Return the matrix `(4, 4)` float64: continuous index x, y, z → physical point in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def to_physical(image: sitk.Image, indices: np.ndarray) -> np.ndarray:
    """Return the physical points in mm of continuous indices `(…, 3)`, x, y, z."""
    return applied(index_to_physical(image), indices)


def to_index(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    """Return the continuous indices x, y, z of physical points `(…, 3)` in mm."""
    return applied(np.linalg.inv(index_to_physical(image)), points)


def lattice(matrix: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return physical points `(N, 3)` all over the box between two corners, which `matrix` (4, 4) places in space."""
    axes = [np.linspace(first, last, _LATTICE) for first, last in zip(low, high)]
    corners = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return applied(matrix, corners)


def any_inside(image: sitk.Image, points: np.ndarray) -> bool:
    """Tell whether one of the physical points `(N, 3)` lies within the outer voxels' centres."""
    index = to_index(image, points)
    return bool(((index >= 0) & (index <= np.array(image.GetSize()) - 1)).all(-1).any())


def overlap(fixed: sitk.Image, moving: sitk.Image, transform: np.ndarray) -> bool:
    """Tell whether the extents, voxels as wide as they are, meet when `transform` (4, 4) maps fixed to moving points.

    Two boxes are apart where some axis has all of one before all of the other; the axes to look along are the normals
    of both and the cross products of their edges (Gottschalk et al., OBBTree, SIGGRAPH 1996).
    """
    boxes = [transform @ _box(fixed), _box(moving)]  # 4×4 each: half sides as columns, and the centre
    edges = [box[:3, :3] for box in boxes]
    between = boxes[1][:3, 3] - boxes[0][:3, 3]
    normals = [edges[index] / np.linalg.norm(edges[index], axis=0) for index in (0, 1)]
    crossed = np.cross(normals[0].T[:, None], normals[1].T[None]).reshape(-1, 3)
    axes = np.concatenate([_outward(edges[0]), _outward(edges[1]), crossed[np.linalg.norm(crossed, axis=1) > 1e-9]])
    reach = sum(np.abs(axes @ of_box).sum(1) for of_box in edges)
    return bool((np.abs(axes @ between) <= reach).all())


def _box(image: sitk.Image) -> np.ndarray:
    """`(4, 4)`: from the centre to the middles of three faces as columns, and the centre, in mm."""
    size = np.array(image.GetSize(), dtype=float)
    matrix = index_to_physical(image)
    box = np.eye(4)
    box[:3, :3] = matrix[:3, :3] * size / 2
    box[:3, 3] = matrix[:3, :3] @ ((size - 1) / 2) + matrix[:3, 3]
    return box


def _outward(edges: np.ndarray) -> np.ndarray:
    """Normals of a box's faces, `(3, 3)`, one per row, also where its edges are not at right angles."""
    return np.stack([np.cross(edges[:, (axis + 1) % 3], edges[:, (axis + 2) % 3]) for axis in range(3)])
