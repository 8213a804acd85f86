"""Lesion-wise sensitivity, precision and F1, by two rules of what it means to find a lesion.

A lesion is a connected component, with 26 neighbours (8 in 2D).

- *Any overlap*: a lesion of the reference is found when it shares a voxel with the prediction, and a predicted lesion
  is real when it shares one with the reference. Sensitivity and precision count different lesions here: one predicted
  blob can find three lesions. F1 is their harmonic mean.
- *IoU ≥ a threshold*: lesions are matched one to one, as many pairs as possible, and only pairs with at least that IoU.
  Which pairs it is does not matter to any number here, as all largest matchings have the same size.
"""

from dataclasses import dataclass

import cc3d
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

_NAN = float("nan")


def components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the connected components of a bool mask of one to three dimensions: 1 … n in its shape, and n."""
    if not mask.any():  # cc3d has no answer for an image without voxels
        return np.zeros(mask.shape, np.uint16), 0
    # As uint8, because what cc3d 4.1.1 does with bool is at times wrong in 2D, and raises for a line of voxels in 3D.
    voxels = (mask if mask.ndim > 1 else mask[None]).view(np.uint8)
    numbered, count = cc3d.connected_components(voxels, connectivity=26 if mask.ndim == 3 else 8, return_N=True)
    return numbered.reshape(mask.shape), count


@dataclass(frozen=True)
class LesionOverlaps:
    """Sizes of the lesions of both masks, and of the overlaps of the pairs that touch.

    Attributes:
        predicted_voxels: `(P,)`, voxels of each predicted lesion.
        reference_voxels: `(R,)`.
        pairs: `(N, 2)`, indices of a predicted and a reference lesion that share voxels.
        shared_voxels: `(N,)`, how many.
    """

    predicted_voxels: np.ndarray
    reference_voxels: np.ndarray
    pairs: np.ndarray
    shared_voxels: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Return the IoU of the pairs, `(N,)`."""
        predicted, reference = self.pairs.T
        union = self.predicted_voxels[predicted] + self.reference_voxels[reference] - self.shared_voxels
        return self.shared_voxels / union

    def matches(self, threshold: float) -> int:
        """Return the largest number of one-to-one pairs with IoU ≥ threshold."""
        predicted, reference = self.pairs[self.iou >= threshold].T
        allowed = csr_array(
            (np.ones(len(predicted), bool), (predicted, reference)),
            shape=(len(self.predicted_voxels), len(self.reference_voxels)),
        )
        return int(np.count_nonzero(maximum_bipartite_matching(allowed) >= 0))


def lesion_overlaps(prediction: np.ndarray, reference: np.ndarray) -> LesionOverlaps:
    """Measure the lesions of two bool masks `(*spatial)`, in voxels."""
    predicted, n_predicted = components(prediction)
    true, n_reference = components(reference)
    both = prediction & reference
    # one number per pair, so that every overlap is counted in one pass
    key = (predicted[both].astype(np.int64) - 1) * max(n_reference, 1) + (true[both].astype(np.int64) - 1)
    keys, shared_voxels = np.unique(key, return_counts=True)
    return LesionOverlaps(
        predicted_voxels=np.bincount(predicted[prediction], minlength=n_predicted + 1)[1:],
        reference_voxels=np.bincount(true[reference], minlength=n_reference + 1)[1:],
        pairs=np.stack(np.divmod(keys, max(n_reference, 1)), axis=1),
        shared_voxels=shared_voxels,
    )


def lesion_metrics(prediction: np.ndarray, reference: np.ndarray, iou_threshold: float) -> dict[str, float]:
    """Compute the lesion metrics of `metrics.py` for two bool masks `(*spatial)`.

    NaN for sensitivity without a lesion in the reference, for precision without one in the prediction, and for F1
    without either; F1 is 0 where just one mask is empty, as Dice is.
    """
    overlaps = lesion_overlaps(prediction, reference)
    n_predicted, n_reference = len(overlaps.predicted_voxels), len(overlaps.reference_voxels)
    real, found = (len(np.unique(overlaps.pairs[:, side])) for side in (0, 1))
    matches = overlaps.matches(iou_threshold)
    return {
        "lesion_sensitivity": _share(found, n_reference),
        "lesion_precision": _share(real, n_predicted),
        "lesion_F1": _harmonic_mean(found, n_reference, real, n_predicted),
        "lesion_sensitivity_IoU": _share(matches, n_reference),
        "lesion_precision_IoU": _share(matches, n_predicted),
        "lesion_F1_IoU": _share(2 * matches, n_predicted + n_reference),
        "lesions": float(n_predicted),
        "reference_lesions": float(n_reference),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else _NAN


def _harmonic_mean(found: int, n_reference: int, real: int, n_predicted: int) -> float:
    """Return that of found/n_reference and real/n_predicted; found and real are 0 together."""
    if not n_reference + n_predicted:
        return _NAN
    if not found:
        return 0.0
    return 2 * found * real / (found * n_predicted + real * n_reference)
