"""Steps of a registration: networks, and mutual information behind them.

A step is a callable of a grid, on which the moving image lies as all steps before have found it, and returns what is
left: T, moving → fixed, in mm about the grid's centre.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.tasks.registration.by_network import network_input
from nnunet_xmodal.tasks.registration.disagreement import disagreement
from nnunet_xmodal.tasks.registration.grid import GridCutter, RegistrationGrid
from nnunet_xmodal.tasks.registration.mind import mind_distance
from nnunet_xmodal.tasks.registration.mutual_information import MutualInformation
from nnunet_xmodal.tasks.registration.turning_point import matrix_about, turning_point

SHIFTS = ((8.0, 6.0, 6.0), (8.0, -6.0, -6.0), (-8.0, 6.0, -6.0), (-8.0, -6.0, 6.0))
"""mm along D, H, W, of the further grids from which networks look: corners of a tetrahedron, within the jitter of the
training."""


class StepResult(NamedTuple):
    """The result of a step.

    Attributes:
        matrix: T, moving → fixed, `(4, 4)` float64 in mm about the centre of the grid.
        seconds: on the wall.
        disagreement: in mm, of folds and of grids shifted a little, see `disagreement`; 0 for one opinion.
        note: what the step has to say beside its name.
    """

    matrix: torch.Tensor
    seconds: float
    disagreement: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class NetworkStep:
    """The networks of all folds, on all grids, whose transforms are averaged on SE(3), not their angles.

    Attributes:
        name: of the trainer.
        cut: the model's preprocessing.
        network: `(B, 2, D, H, W)` and spacing → `(B, 6)` in mm and degrees.
        parameters: one state per fold.
        fixed_is_label: whether it reads a label as its fixed image.
        turns_about_corner: whether its six numbers turn about the grid's corner, see `turning_point`.
    """

    name: str
    cut: GridCutter
    network: nn.Module
    parameters: Sequence[dict]
    device: torch.device
    fixed_is_label: bool = False
    turns_about_corner: bool = False

    def __call__(self, grid: RegistrationGrid) -> StepResult:
        """Register by the networks: the mean of what all folds find on this grid and on its shifted ones.

        How far they lie apart tells how sure that is.

        Raises:
            XModalError: where a network returns NaN or infinity.
        """
        began = perf_counter()
        self.network.to(self.device).eval()
        grids = (grid, *grid.shifted)
        x = self.input_of(grids)
        spacing = torch.tensor(grid.chain.effective_spacing, dtype=torch.float32, device=self.device)
        point = turning_point(grid.fixed.shape, spacing.cpu().double(), self.turns_about_corner)
        opinions = []
        for parameters in self.parameters:
            self.network.load_state_dict(parameters)
            with torch.no_grad():
                opinions.append(matrix_about(self.network(x, spacing).cpu().double(), point))  # G 4 4
        found = torch.stack(opinions)  # F G 4 4
        if not torch.isfinite(found).all():
            raise XModalError(f"the network of {self.name} returned NaN or infinity.")
        on_this = torch.stack([rigid_transform.about(found[:, g], -_offset(one, grid)) for g, one in enumerate(grids)])
        result = rigid_transform.mean_se3(on_this.flatten(0, 1))
        return StepResult(result, perf_counter() - began, disagreement(on_this.flatten(0, 1)))

    def input_of(self, grids: Sequence[RegistrationGrid]) -> torch.Tensor:
        """Return what the network reads of grids of one size, `(G, 2, D, H, W)` on the device."""
        fixed, moving = (
            torch.from_numpy(np.stack(images))[:, None].to(self.device)
            for images in ([self.fixed_of(grid) for grid in grids], [grid.moving for grid in grids])
        )
        spacing = torch.tensor(grids[0].chain.effective_spacing, dtype=torch.float32, device=self.device)
        return network_input(fixed, moving, torch.eye(4, device=self.device), spacing, self.fixed_is_label)

    def fixed_of(self, grid: RegistrationGrid) -> np.ndarray:
        """Return what the network reads as its fixed image, `(D, H, W)`."""
        if not self.fixed_is_label:
            return grid.fixed
        assert grid.label is not None, "the grid is cut with the label where the network reads it"
        return grid.label


@dataclass(frozen=True)
class MutualInformationStep:
    """Mutual information on the grid of the model, from where the networks have left the moving image.

    It always finds a larger value of its own measure, right or wrong. So its result counts only where another measure,
    the difference of neighbourhood descriptors (MIND), says that the images are more alike than before.
    """

    cut: GridCutter
    name: str = "mutual information"
    fixed_is_label: bool = False

    def __call__(self, grid: RegistrationGrid) -> StepResult:
        """Register by mutual information.

        Raises:
            XModalError: where SimpleITK gives up, as on a constant image.
        """
        spacing = grid.chain.effective_spacing
        here = torch.eye(4, dtype=torch.float64)
        try:
            found = MutualInformation()(grid.fixed, grid.moving, spacing, here)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise XModalError(f"mutual information failed ({reason}): leave out --refine.") from error
        before, after = (mind_distance(grid.fixed, grid.moving, spacing, matrix) for matrix in (here, found.matrix))
        if after < before:
            return StepResult(found.matrix, found.seconds)
        return StepResult(here, found.seconds, note="no gain, left out")


RegistrationStep = NetworkStep | MutualInformationStep


def _offset(grid: RegistrationGrid, from_grid: RegistrationGrid) -> torch.Tensor:
    """x, y, z in mm of a grid's centre from that of another one."""
    return torch.from_numpy(from_grid.chain.to_grid(grid.chain.grid_to_physical[:3, 3]))
