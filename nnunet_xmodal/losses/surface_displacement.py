"""The loss of a registration in millimetres: how far an organ's surface ends from where it belongs."""

import torch
from torch import nn

from nnunet_xmodal.geometry.surface import displacements


class SurfaceDisplacement(nn.Module):
    """The mean squared displacement of surface points, mean ‖T⁻¹m − m‖² in mm², and its mean over the batch.

    Its square root is what the surface registration error (SRE) measures, so that a degree weighs as much as the
    surface moves by it, about a quarter of a millimetre on the phantoms' organs; the mean squared error of six numbers
    takes a degree for a millimetre.
    """

    def forward(self, matrix: torch.Tensor, points: torch.Tensor, exists: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss of what is left of a registration of aligned data.

        Args:
            matrix: T, `(B, 4, 4)`, the identity for a perfect registration.
            points: m, `(B, N, 3)` in mm.
            exists: bool `(B, N)` of padded surfaces; all of them if None.
        """
        squared = displacements(matrix, points).square().sum(-1)  # B N
        if exists is None:
            return squared.mean()
        return ((squared * exists).sum(-1) / exists.sum(-1)).mean()
