"""Preprocessed cases as registration sees them: both images and the label on a grid around the organ."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from nnunet_xmodal.datasets.preprocessed_cases import CasesOnDisk
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.grid_chain import GridChain
from nnunet_xmodal.geometry.surface import surface_points
from nnunet_xmodal.tasks.registration.surroundings import FARTHEST, voxels_around
from nnunet_xmodal.tasks.registration.turning_point import turning_point


class CaseOnGrid(NamedTuple):
    """A case on the grid around its organ; 0 where the grid reaches beyond the images.

    Attributes:
        fixed: float32 `(1, D, H, W)`.
        moving: aligned with it, on the grid and its surroundings, float32 `(1, D', H', W')` around the same centre.
        label: float32 `(1, D, H, W)`, 1 inside of the organ.
        points: of the whole organ's surface, float64 `(N, 3)`: x, y, z in mm from the centre of the grid.
        spacing: effective, float64 `(3)`: mm along D, H, W.
        chain: from the grid's voxels to physical points.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    label: torch.Tensor
    points: torch.Tensor
    spacing: torch.Tensor
    chain: GridChain

    def turning_point(self, about_corner: bool) -> torch.Tensor:
        """Return the point about which starts turn, float64 `(3)` in mm from the centre of the grid."""
        return turning_point(self.fixed.shape[1:], self.spacing, about_corner)


class RegistrationCases:
    """Preprocessed cases, cut to a grid around the centre of the bounding box of all foreground labels.

    Labels are read once, in the constructor; images whenever a case is cut.

    Args:
        dataset: of nnU-Net, with `identifiers` and `load_case`.
        transpose_forward: of the plans.
        grid: voxels along D, H, W.
        labels: values that are foreground.
        farthest: mm by which a start displaces the moving image at most; see `surroundings`.

    Raises:
        XModalError: names the case that has no label, a single slice, or was read by another reader than SimpleITKIO.
    """

    def __init__(
        self,
        dataset: CasesOnDisk,
        transpose_forward: Sequence[int],
        grid: Sequence[int],
        labels: Sequence[int],
        farthest: float = FARTHEST,
    ) -> None:
        self.dataset, self.labels = dataset, list(labels)
        self.identifiers = list(dataset.identifiers)
        self._chains: dict[str, GridChain] = {}
        self._physical_points: dict[str, np.ndarray] = {}
        of_each = []
        for case in self.identifiers:
            _, segmentation, _, properties = dataset.load_case(case)
            organ = self._organ(segmentation)
            if min(organ.shape) == 1 or min(properties["shape_after_cropping_and_before_resampling"]) == 1:
                raise XModalError(
                    f"the preprocessed case {case} has one slice ({'×'.join(map(str, organ.shape))} voxels): "
                    "registration works on volumes, leave the case out."
                )
            indices = organ.nonzero()
            if not len(indices[0]):
                raise XModalError(
                    f"the label of {case} is empty after preprocessing, so there is no organ to cut the grid around: "
                    "complete its label or leave the case out."
                )
            centre = [(int(axis.min()) + int(axis.max())) / 2 for axis in indices]
            chain = GridChain.from_properties(properties, transpose_forward, organ.shape, grid, centre)
            whole = GridChain.from_properties(properties, transpose_forward, organ.shape, organ.shape)
            self._chains[case] = chain
            of_each.append(voxels_around(grid, chain.effective_spacing, farthest))
            self._physical_points[case] = whole.to_physical(surface_points(organ, chain.effective_spacing).numpy())
        self._around = np.max(of_each, 0).tolist()  # one size of all cases, so that batches can be made

    def cut(self, case: str, shift: Sequence[float] = (0.0, 0.0, 0.0)) -> CaseOnGrid:
        """Cut the grid of a case.

        Args:
            shift: of the grid's centre in mm along z, y, x, rounded to whole voxels.
        """
        chain = self._chains[case]
        if any(shift):
            chain = chain.shifted(shift)
        data, segmentation, _, _ = self.dataset.load_case(case)
        return CaseOnGrid(
            fixed=torch.from_numpy(chain.cut(data[:1]).astype(np.float32, copy=False)),
            moving=torch.from_numpy(chain.enlarged(self._around).cut(data[1:]).astype(np.float32, copy=False)),
            label=torch.from_numpy(self._organ(chain.cut(segmentation)).astype(np.float32))[None],
            points=torch.from_numpy(chain.to_grid(self._physical_points[case])),
            spacing=torch.tensor(chain.effective_spacing, dtype=torch.float64),
            chain=chain,
        )

    def _organ(self, segmentation: np.ndarray) -> np.ndarray:
        """`(1, …)` of any integers → bool `(…)`."""
        return np.isin(segmentation[0], self.labels)
