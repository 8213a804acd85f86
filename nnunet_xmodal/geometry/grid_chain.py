"""From the voxels that a registration network sees to physical points, and its transform as one of physical space.

nnU-Net's preprocessing takes the fixed image, an array (z, y, x) with a place in physical (LPS) space, through

    transpose      j_k = i_{transpose_forward[k]}
    crop           j − first of bbox_used_for_cropping
    resample       (j + ½)·new_shape/old_shape − ½: sizes are rounded, then voxels' outer faces are laid on each other
    cut            j − start, whole voxels: the grid, which may reach beyond the array

All steps are affine in the index, so all of them together are one matrix. The spacing behind resampling is
`spacing·old_shape/new_shape`, not the plan's: the plan's says which new shape is nearest.

Millimetres on the grid are `(j − (size − 1)/2)·effective spacing`, named x, y, z along the last, middle and first axis.
As spacing is divided out before directions are applied, these and physical points differ by an orthogonal matrix and a
shift, so that rigid transforms stay rigid, on anisotropic voxels and oblique axes too. Where the axes are a left-handed
set, by their direction cosines or by an odd transposition, that matrix has determinant −1; conjugating by it turns
rotations into rotations all the same.

A network's T maps moving onto fixed points. The transform that people load to *resample* the moving image onto the
fixed one asks for the moving point of a fixed point. With P: grid mm → physical, and I the initial transform of that
kind (fixed → moving point) by which the moving image was brought onto the fixed grid before the network saw it:

    X = I · P · T⁻¹ · P⁻¹          T = P⁻¹ · X⁻¹ · I · P
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.affine import applied

_ORTHOGONAL_TO = 1e-3  # headers hold float32, and some of them, as matrices in text, four digits


@dataclass(frozen=True)
class GridChain:
    """
    Attributes:
        spacing, origin, direction: of the fixed image as SimpleITK has them: mm, mm, nine cosines row by row, x y z.
        transpose_forward: of the plans.
        first: of every axis of the bounding box that nnU-Net cropped to, behind the transposition.
        old_shape, new_shape: before and behind resampling.
        size: of the grid, D, H, W.
        start: of the grid in the preprocessed array, maybe negative.

    Raises:
        XModalError: for images that are not volumes, and for axes that are not at right angles.
    """

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    transpose_forward: tuple[int, ...]
    first: tuple[int, ...]
    old_shape: tuple[int, ...]
    new_shape: tuple[int, ...]
    size: tuple[int, ...]
    start: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.spacing) != 3 or len(self.size) != 3:
            raise XModalError(
                f"registration works on volumes, and the fixed image has {len(self.spacing)} dimensions, the grid "
                f"{len(self.size)}."
            )
        axes = np.reshape(self.direction, (3, 3))
        if not np.allclose(axes.T @ axes, np.eye(3), atol=_ORTHOGONAL_TO):
            raise XModalError(
                f"the axes of the fixed image, with direction cosines {axes.round(4).tolist()}, are not at right "
                "angles: resample it onto a grid whose axes are, no rigid transform would stay one."
            )

    @classmethod
    def from_properties(
        cls,
        properties: dict,
        transpose_forward: Sequence[int],
        new_shape: Sequence[int],
        size: Sequence[int],
        centre: Sequence[float] | None = None,
    ) -> "GridChain":
        """Make the chain of a preprocessed case.

        Args:
            properties: as nnU-Net's SimpleITK reader and its preprocessor leave them.
            transpose_forward: of the plans.
            new_shape: of the preprocessed array, without channels.
            size: of the grid, D, H, W.
            centre: of the grid in indices of the preprocessed array, rounded to whole voxels; the array's if None.

        Raises:
            XModalError: as the class, and for a case read by another reader.
        """
        if "sitk_stuff" not in properties:
            raise XModalError(
                "the case was not read by nnU-Net's SimpleITKIO, whose properties tell origin and direction: plan the "
                'dataset with "overwrite_image_reader_writer": "SimpleITKIO" in dataset.json.'
            )
        place = properties["sitk_stuff"]
        chain = cls(
            spacing=tuple(map(float, place["spacing"])),
            origin=tuple(map(float, place["origin"])),
            direction=tuple(map(float, place["direction"])),
            transpose_forward=tuple(map(int, transpose_forward)),
            first=tuple(int(low) for low, _ in properties["bbox_used_for_cropping"]),
            old_shape=tuple(map(int, properties["shape_after_cropping_and_before_resampling"])),
            new_shape=tuple(map(int, new_shape)),
            size=tuple(map(int, size)),
            start=(0, 0, 0),
        )
        return chain.around([(side - 1) / 2 for side in chain.new_shape] if centre is None else centre)

    def around(self, centre: Sequence[float]) -> "GridChain":
        """Return the same with a grid around another centre, in indices of the preprocessed array."""
        start = [round(float(middle) - (side - 1) / 2) for middle, side in zip(centre, self.size)]
        return replace(self, start=tuple(start))

    def shifted(self, millimetres: Sequence[float]) -> "GridChain":
        """Return the same with a grid shifted along its axes, rounded to whole voxels."""
        return self.around((self._grid_centre + np.divide(millimetres, self.effective_spacing)).tolist())

    def enlarged(self, voxels: Sequence[int]) -> "GridChain":
        """Return the same with a grid that reaches so many voxels further, on both sides of each axis."""
        return replace(
            self,
            size=tuple(side + 2 * more for side, more in zip(self.size, voxels)),
            start=tuple(start - more for start, more in zip(self.start, voxels)),
        )

    @property
    def effective_spacing(self) -> tuple[float, ...]:
        """Return the mm along the axes of the preprocessed array and of the grid."""
        along = [self.spacing[::-1][axis] for axis in self.transpose_forward]
        return tuple(mm * old / new for mm, old, new in zip(along, self.old_shape, self.new_shape))

    @property
    def grid_to_physical(self) -> np.ndarray:
        """Return P, `(4, 4)` float64: x, y, z in mm from the centre of the grid → physical point in mm."""
        return _with_last_row(self._rotation, self._physical_of_preprocessed(self._grid_centre))

    def to_physical(self, points: np.ndarray) -> np.ndarray:
        """Map `(…, 3)`: x, y, z in mm from the centre of the grid → physical points in mm."""
        return applied(self.grid_to_physical, points)

    def to_grid(self, points: np.ndarray) -> np.ndarray:
        """Map `(…, 3)`: physical points in mm → x, y, z in mm from the centre of the grid."""
        return applied(np.linalg.inv(self.grid_to_physical), points)

    def to_preprocessed(self, points: np.ndarray) -> np.ndarray:
        """Map `(…, 3)`: physical points in mm → indices in the preprocessed array, in the order of its axes."""
        return self.to_grid(points)[..., ::-1] / self.effective_spacing + self._grid_centre

    def cut(self, array: np.ndarray, fill: float = 0) -> np.ndarray:
        """Cut the grid from a preprocessed array, `(C, *new_shape)` → `(C, *size)`; `fill` where it reaches beyond."""
        out = np.full((len(array), *self.size), fill, array.dtype)
        source, target = [slice(None)], [slice(None)]
        for start, side, available in zip(self.start, self.size, array.shape[1:]):
            low, high = max(start, 0), max(min(start + side, available), max(start, 0))
            source.append(slice(low, high))
            target.append(slice(low - start, high - start))
        out[tuple(target)] = array[tuple(source)]
        return out

    def physical_transform(
        self, matrix: torch.Tensor | np.ndarray, initial: sitk.Transform | None = None
    ) -> sitk.Euler3DTransform:
        """Return X, which resamples the moving image, as it is on disk, onto the fixed one.

        Args:
            matrix: T on the grid, `(4, 4)`, moving → fixed, in mm about its centre.
            initial: fixed → moving point, rigid, by which the moving image came onto the fixed grid; none if None.

        Returns:
            A rigid transform with `ComputeZYX` and the centre of the grid as its centre.

        Raises:
            XModalError: for an initial transform that is not rigid.
        """
        place = self.grid_to_physical
        physical = place @ np.linalg.inv(_array(matrix)) @ np.linalg.inv(place)  # fixed → where it was before T
        if initial is not None:
            physical = physical_matrix(initial) @ physical
        return euler_transform(physical, centre=place[:3, 3].tolist())

    def grid_matrix(
        self, physical: sitk.Transform | np.ndarray, initial: sitk.Transform | np.ndarray | None = None
    ) -> np.ndarray:
        """Return T on the grid, `(4, 4)` float64, of a transform fixed → moving point: undo physical_transform.

        Args:
            physical: X, a rigid SimpleITK transform or its `(4, 4)` matrix.
            initial: as in physical_transform.

        Raises:
            XModalError: for transforms that are not rigid.
        """
        place = self.grid_to_physical
        before = np.eye(4) if initial is None else physical_matrix(initial)
        return np.linalg.inv(place) @ np.linalg.inv(physical_matrix(physical)) @ before @ place

    @property
    def _grid_centre(self) -> np.ndarray:
        return np.add(self.start, (np.array(self.size) - 1) / 2)

    @property
    def _rotation(self) -> np.ndarray:
        """Columns: the physical directions of the grid's x, y and z."""
        axes = np.reshape(self.direction, (3, 3))[:, ::-1][:, list(self.transpose_forward)]  # of the grid's z, y, x
        u, _, vh = np.linalg.svd(axes[:, ::-1])
        return u @ vh  # without the header's rounding, which would make rotations stretch

    def _physical_of_preprocessed(self, index: np.ndarray) -> np.ndarray:
        cropped = (index + 0.5) * np.array(self.old_shape) / self.new_shape - 0.5
        native = np.empty(3)
        native[list(self.transpose_forward)] = cropped + self.first  # z y x
        return self.origin + np.reshape(self.direction, (3, 3)) @ (native[::-1] * self.spacing)


def euler_transform(matrix: np.ndarray, centre: Sequence[float]) -> sitk.Euler3DTransform:
    """Return a rigid `(4, 4)` in physical mm as SimpleITK's transform about `centre`, composed as Rz·Ry·Rx.

    Without ComputeZYX it would be Rz·Rx·Ry; the flag survives a file.
    """
    about = rigid_transform.about(torch.from_numpy(matrix), torch.as_tensor(centre, dtype=torch.float64))
    parameters = rigid_transform.parameters(about)
    transform = sitk.Euler3DTransform()
    transform.SetComputeZYX(True)
    transform.SetCenter([float(x) for x in centre])
    transform.SetRotation(*torch.deg2rad(parameters[3:]).tolist())
    transform.SetTranslation(parameters[:3].tolist())
    return transform


def physical_matrix(transform: sitk.Transform | np.ndarray) -> np.ndarray:
    """Return a rigid transform of any of SimpleITK's kinds, a composite too, as `(4, 4)` float64, its rotation the
    nearest one to numbers that were rounded.

    Raises:
        XModalError: for one that is not rigid: scaled, sheared, mirrored or deformed.
    """
    matrix = _array(transform) if not isinstance(transform, sitk.Transform) else _matrix_of(transform)
    r = matrix[:3, :3]
    if not np.allclose(r.T @ r, np.eye(3), atol=_ORTHOGONAL_TO) or np.linalg.det(r) < 0:
        raise XModalError(
            f"a transform is not rigid, its matrix is {r.round(4).tolist()}: give one of rotation and translation "
            "alone, such as an Euler3DTransform."
        )
    u, _, v = np.linalg.svd(r)
    return _with_last_row(u @ v, matrix[:3, 3])


def _matrix_of(transform: sitk.Transform) -> np.ndarray:
    if not transform.IsLinear():
        raise XModalError(
            f"a {transform.GetName()} is not rigid: give a transform of rotation and translation alone, such as an "
            "Euler3DTransform."
        )
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(unit))) - origin for unit in np.eye(3)]
    return _with_last_row(np.stack(columns, 1), origin)


def _array(matrix: torch.Tensor | np.ndarray) -> np.ndarray:
    if isinstance(matrix, torch.Tensor):
        matrix = matrix.detach().cpu().numpy()
    return np.asarray(matrix, dtype=np.float64)


def _with_last_row(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return np.block([[linear, shift[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
