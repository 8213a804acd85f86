"""The loss of susceptibility mapping: QSMnet's (Yoon et al., 2018, Sec. 2.3), which the folded attention paper adopts.

With χ̂ and χ the predicted and the true map, d the dipole and means over the voxels of the mask:

    total    = L1 + w₁·model + w₂·gradient
    L1       = mean |χ̂ − χ|
    model    = mean |d∗χ̂ − d∗χ|
    gradient = Σ over z, y, x of mean |∂(χ̂ − χ)| + mean |∂(d∗χ̂ − d∗χ)|

L1 and model are in ppm, the gradient in ppm/mm. Derivatives are differences of neighbours that both lie in the mask.

**On a patch.** QSMnet's model term compares d∗χ̂ with the *measured* field, w₁ = 0.5. On a patch that field has sources
outside, 38 % of it on average at 64×64×32 voxels, and the true map is no minimum. So d∗χ̂ is compared with the field of
the true map of the same patch, w₁ = 1. QSMnet's form is what `field` is for.

Sources outside the mask are none of the local field: maps are cut to it before they are convolved. QSMnet compares
absolute values of derivatives, which a map and its negative share; here they keep their sign.
"""

from typing import NamedTuple

import torch
from torch import nn

from nnunet_xmodal.physics import dipole


class DipoleInversionTerms(NamedTuple):
    """Scalars: `total` is for the step, the others are its parts without their weights, for the log."""

    total: torch.Tensor
    l1: torch.Tensor
    model: torch.Tensor
    gradient: torch.Tensor


class DipoleInversionLoss(nn.Module):
    """
    Args:
        model_weight: w₁; 1 against the field of the true map, 0.5 in QSMnet against the measured one.
        gradient_weight: w₂, QSMnet's 0.1.
        padding: of the convolution, see `physics.dipole`.

    Shape: prediction, target and mask `(B, 1, D, H, W)`, maps in ppm, the mask bool or 0 and 1; spacing and direction
    of the main field `(3,)` or `(B, 3)`, mm and unit vector along z, y, x → DipoleInversionTerms.
    """

    def __init__(
        self, model_weight: float = 1.0, gradient_weight: float = 0.1, padding: float = dipole.PADDING
    ) -> None:
        super().__init__()
        self.model_weight, self.gradient_weight = model_weight, gradient_weight
        self.padding = padding

    def forward(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        mask: torch.Tensor,
        spacing: dipole.Vector,
        direction: dipole.Vector,
        field: torch.Tensor | None = None,
    ) -> DipoleInversionTerms:
        """Return the total and its three terms; see the class.

        Args:
            field: measured, in ppm, of the same shape: the model term compares with it instead.
        """
        exact = torch.promote_types(prediction.dtype, torch.float32)
        mask = mask.to(exact)
        error = (prediction.to(exact) - target) * mask  # B 1 D H W
        field_error = dipole.forward(error, spacing, direction, self.padding)  # linear: of the difference at once
        if field is not None:
            of_target = dipole.forward(target.to(exact) * mask, spacing, direction, self.padding)
            field_error = field_error + (of_target - field)
        l1 = mean_inside(error, mask)
        model = mean_inside(field_error, mask)
        gradient = derivatives_inside(error, mask, spacing) + derivatives_inside(field_error, mask, spacing)
        return DipoleInversionTerms(
            l1 + self.model_weight * model + self.gradient_weight * gradient, l1, model, gradient
        )


def mean_inside(error: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean |error| over the voxels of all masks, 0 if there are none: two `(B, 1, D, H, W)` → scalar."""
    return (error.abs() * mask).sum() / mask.sum().clamp(min=1)


def derivatives_inside(error: torch.Tensor, mask: torch.Tensor, spacing: dipole.Vector) -> torch.Tensor:
    """Return the sum over the axes of the mean |∂error| of neighbours that both lie in the mask, a scalar.

    Args:
        error, mask: `(B, 1, D, H, W)`, the mask 0 and 1.
        spacing: mm along z, y, x, `(3,)` or `(B, 3)`.
    """
    mm = torch.as_tensor(spacing, dtype=error.dtype, device=error.device)
    total = error.new_zeros(())
    for axis in range(3):
        dim, side = axis + 2, error.shape[axis + 2]
        if side > 1:
            both = mask.narrow(dim, 1, side - 1) * mask.narrow(dim, 0, side - 1)
            total = total + mean_inside(error.diff(dim=dim) / mm[..., axis].view(-1, 1, 1, 1, 1), both)
    return total
