"""HD95, ASSD and normalised surface Dice from one set of distances between the surfaces of two masks.

Libraries mean different things by these names. Here they are MONAI's:

- a surface is the voxels of the mask that its erosion with 6 neighbours (4 in 2D) takes away; beyond the image there is
  nothing, so that a mask at the border has a surface there;
- HD95 is `compute_hausdorff_distance(percentile=95)`: the larger of the 95th percentiles of both directions,
  interpolated linearly. DeepMind's surface-distance instead weights surface elements by their area, and others take the
  percentile of both directions pooled;
- ASSD is `compute_average_surface_distance(symmetric=True)`: the mean over the distances of both directions pooled, so
  that the larger surface counts for more. Others average the means of the two directions;
- NSD is `compute_surface_dice(use_subvoxels=False)`: the share of both surfaces' voxels that lie within the tolerance
  of the other surface (Nikolov et al., 2018, with voxels counted in place of areas).

Two differences at the edges: distances are float64 instead of float32, and HD95 and ASSD are NaN where either mask is
empty (MONAI: infinity where one is), because what an empty mask costs is a choice, see `empty_labels.py`.

How: both masks are cropped to their common box, voxels on both surfaces are 0 without a search, and the rest is looked
up in a k-d tree of the other surface. For tumours of a hundred millilitres at 1 mm that takes a third of the time of
two Euclidean distance transforms, and a far-off false positive, which blows up the box, costs little. A tree that is
built for one round of queries pays for neither balance nor tight boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from nnunet_xmodal.geometry.bounding_box import bounding_box

# A distance that equals the tolerance counts as within it, also when 3 · 0.1 mm comes out as 0.30000000000000004 mm or
# a header holds the spacing in single precision.
_ROUNDING = 1e-6


def surface(mask: np.ndarray) -> np.ndarray:
    """Mark the voxels of a bool mask `(*spatial)` with a face on the outside; the image's border counts as outside.

    The same as `mask & ~scipy.ndimage.binary_erosion(mask)`, in a fifth of its time.
    """
    inside = mask.copy()
    for axis in range(mask.ndim):
        before, after = _along(axis, slice(None, -1)), _along(axis, slice(1, None))
        inside[after] &= mask[before]
        inside[before] &= mask[after]
        inside[_along(axis, slice(None, 1))] = False
        inside[_along(axis, slice(-1, None))] = False
    return mask & ~inside


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


@dataclass(frozen=True)
class SurfaceDistances:
    """The distance of every surface voxel of one mask to the surface of the other, in mm, float64, in no order.

    Infinite where the other mask is empty; without entries where the mask itself is.
    """

    prediction_to_reference: np.ndarray
    reference_to_prediction: np.ndarray

    @property
    def hd95(self) -> float:
        """Return the larger of both directions' 95th percentiles in mm; NaN where a mask is empty."""
        if self._a_mask_is_empty:
            return float("nan")
        return max(float(np.percentile(d, 95)) for d in (self.prediction_to_reference, self.reference_to_prediction))

    @property
    def assd(self) -> float:
        """Return the mean of all distances of both directions in mm; NaN where a mask is empty."""
        if self._a_mask_is_empty:
            return float("nan")
        total = self.prediction_to_reference.sum() + self.reference_to_prediction.sum()
        return float(total / self._size)

    def nsd(self, tolerance: float) -> float:
        """Return the share of both surfaces within `tolerance` mm of the other: 0 if one is empty, NaN if both are."""
        if not self._size:
            return float("nan")
        limit = tolerance * (1 + _ROUNDING)
        within = sum(np.count_nonzero(d <= limit) for d in (self.prediction_to_reference, self.reference_to_prediction))
        return int(within) / self._size

    @property
    def _size(self) -> int:
        return len(self.prediction_to_reference) + len(self.reference_to_prediction)

    @property
    def _a_mask_is_empty(self) -> bool:
        return not (len(self.prediction_to_reference) and len(self.reference_to_prediction))


def surface_distances(prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances:
    """Measure the distances between the surfaces of two bool masks `(*spatial)` of one to three dimensions, in mm.

    Axes along which the image has a single voxel are left out, as if it had fewer dimensions: nnU-Net reads a 2D image
    as 1×H×W, with a spacing of 999 for the axis that is not there, and in three dimensions all of it would be surface.

    Args:
        spacing: of a voxel per axis, in mm.
    """
    axes = [axis for axis, size in enumerate(prediction.shape) if size > 1] or [0]
    step = np.array([spacing[axis] for axis in axes], dtype=np.float64)
    shape = [prediction.shape[axis] for axis in axes]
    prediction, reference = prediction.reshape(shape), reference.reshape(shape)

    box = bounding_box(prediction | reference)
    prediction, reference = surface(prediction[box]), surface(reference[box])
    shared = prediction & reference
    return SurfaceDistances(
        _nearest(prediction, reference, shared, step),
        _nearest(reference, prediction, shared, step),
    )


def _nearest(points: np.ndarray, targets: np.ndarray, shared: np.ndarray, step: np.ndarray) -> np.ndarray:
    """mm from each voxel of the mask `points` to the nearest of `targets`; those on both are 0, and come last."""
    # (N, dimensions) in mm
    searching = np.argwhere(points & ~shared) * step
    if not len(searching):
        return np.zeros(np.count_nonzero(shared))
    if not targets.any():
        return np.full(len(searching), np.inf)
    tree = cKDTree(np.argwhere(targets) * step, leafsize=32, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(searching)
    return np.concatenate([distances, np.zeros(np.count_nonzero(shared))])
