"""Reasons to look at a registration before it is used, and the numbers of a transform that they rest on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
import torch

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.grid_chain import physical_matrix
from nnunet_xmodal.tasks.registration.grid import RegistrationGrid
from nnunet_xmodal.tasks.registration.start import Start
from nnunet_xmodal.tasks.registration.surroundings import FARTHEST, amid

LARGEST_DISAGREEMENT = 2.5
"""mm, of folds and shifted grids, beyond which a result is doubted; measured: documentation/results/
registration_phantoms.md, "Warnings"."""
_SWAPPED = 2.0  # times as unlike as the other way round


class Intensities(NamedTuple):
    """What a channel looks like within the organ: median and deviation of its values."""

    median: float
    deviation: float

    @classmethod
    def of_plans(cls, plans: dict, channel: int) -> "Intensities | None":
        """Read those of the training cases, if the plans hold them."""
        found = plans.get("foreground_intensity_properties_per_channel", {}).get(str(channel), {})
        if not {"median", "std"} <= set(found):
            return None
        return cls(float(found["median"]), float(found["std"]))

    @classmethod
    def of_image(cls, image: np.ndarray) -> "Intensities":
        """Measure those amid a grid, its middle half along each axis."""
        middle = amid(image, [max(1, side // 2) for side in image.shape])
        return cls(float(np.median(middle)), float(middle.std()))

    def unlike(self, other: "Intensities") -> float:
        """Return how far apart two channels are, in deviations."""
        spread = max(self.deviation, other.deviation, 1e-6)
        return abs(self.median - other.median) / spread + abs(np.log(_some(self.deviation) / _some(other.deviation)))


def doubts(
    transform: sitk.Euler3DTransform, start: Start, grid: RegistrationGrid, disagreement: float, plans: dict
) -> list[str]:
    """Return the reasons, each a few words; none where nothing speaks against a result.

    Args:
        transform: what was found, the start included.
        grid: on which the first step looked.
        disagreement: in mm, see `disagreement`.
        plans: of the model.
    """
    found = displacement(np.linalg.inv(physical_matrix(start.initial)) @ physical_matrix(transform), transform)
    reasons = []
    if found > FARTHEST:
        reasons.append(f"moved by {found:.0f} mm, beyond the {FARTHEST:g} mm of the training")
    if disagreement > LARGEST_DISAGREEMENT:
        reasons.append(f"folds or shifted grids disagree by {disagreement:.1f} mm")
    on_grid = [grid.fixed, amid(grid.moving, grid.fixed.shape)]
    for name, image in zip(("fixed", "moving"), on_grid):
        if image.min() == image.max():
            reasons.append(f"the {name} image is constant on the grid")
    if not reasons and _seem_swapped(on_grid, plans):
        reasons.append("fixed and moving image look swapped")
    return reasons


def displacement(matrix: np.ndarray, transform: sitk.Euler3DTransform) -> float:
    """Return by how many mm a matrix `(4, 4)` moves the centre of a transform."""
    centre = np.array(transform.GetCenter())
    return float(np.linalg.norm(matrix[:3, :3] @ centre + matrix[:3, 3] - centre))


def angle(matrix: np.ndarray) -> float:
    """Return by how many degrees a matrix `(4, 4)` turns."""
    return float(rigid_transform.rotation_angle(torch.from_numpy(matrix)))


def _seem_swapped(images: Sequence[np.ndarray], plans: dict) -> bool:
    """Tell whether each image is far more like the other channel of the training than like its own."""
    trained = [found for channel in (0, 1) if (found := Intensities.of_plans(plans, channel)) is not None]
    if len(trained) < len(images):
        return False
    seen = [Intensities.of_image(image) for image in images]
    own = [seen[channel].unlike(trained[channel]) for channel in (0, 1)]
    others = [seen[channel].unlike(trained[1 - channel]) for channel in (0, 1)]
    return all(ours > _SWAPPED * theirs for ours, theirs in zip(own, others))


def _some(value: float) -> float:
    return max(value, 1e-6)
