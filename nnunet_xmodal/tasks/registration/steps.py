"""Steps of a registration: networks, and mutual information behind them.

A step is a callable of a grid, on which the moving image lies as all steps before have found it, and returns what is
left: T, moving → fixed, in mm about the grid's centre.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.tasks.registration.by_network import ByNetwork
from nnunet_xmodal.tasks.registration.grid import GridCutter, RegistrationGrid
from nnunet_xmodal.tasks.registration.mutual_information import MutualInformation
from nnunet_xmodal.tasks.registration.registered import Registered


@dataclass(frozen=True)
class NetworkStep:
    """The networks of all folds, whose transforms are averaged on SE(3), not their angles.

    Attributes:
        name: of the trainer.
        cut: the model's preprocessing.
        network: `(1, 2, D, H, W)` → `(1, 6)` in mm and degrees.
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

    def __call__(self, grid: RegistrationGrid) -> Registered:
        """Register by the networks.

        Raises:
            XModalError: where a network returns NaN or infinity.
        """
        self.network.to(self.device).eval()
        method = ByNetwork(self.network, self.device, self.fixed_is_label, turns_about_corner=self.turns_about_corner)
        found = []
        for parameters in self.parameters:
            self.network.load_state_dict(parameters)
            found.append(method(self.fixed_of(grid), grid.moving, grid.chain.effective_spacing, torch.eye(4)))
            if not torch.isfinite(found[-1].matrix).all():
                raise XModalError(f"the network of {self.name} returned NaN or infinity.")
        matrices, seconds = zip(*found)
        return Registered(rigid_transform.mean_se3(torch.stack(matrices)), sum(seconds))

    def fixed_of(self, grid: RegistrationGrid) -> np.ndarray:
        """Return what the network reads as its fixed image, `(D, H, W)`."""
        if not self.fixed_is_label:
            return grid.fixed
        assert grid.label is not None, "the grid is cut with the label where the network reads it"
        return grid.label


@dataclass(frozen=True)
class MutualInformationStep:
    """Mutual information on the grid of the model, from where the networks have left the moving image."""

    cut: GridCutter
    name: str = "mutual information"
    fixed_is_label: bool = False

    def __call__(self, grid: RegistrationGrid) -> Registered:
        """Register by mutual information.

        Raises:
            XModalError: where SimpleITK gives up, as on a constant image.
        """
        try:
            return MutualInformation()(grid.fixed, grid.moving, grid.chain.effective_spacing, torch.eye(4))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise XModalError(f"mutual information failed ({reason}): leave out --refine.") from error


RegistrationStep = NetworkStep | MutualInformationStep
