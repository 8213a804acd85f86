"""Affinities along one axis of a feature tensor, and aggregation by them, on views instead of unfolded copies.

The papers unfold the tensor, so that the axis comes first and everything else is flattened behind it: L × N/L. Here the
axis stays where it is; `axis_products.py` has the products.
"""

import torch

from nnunet_xmodal.networks.blocks.axis_products import axis_energies, cascade


def axis_affinity(theta: torch.Tensor, phi: torch.Tensor, axis: int, invert: bool = False) -> torch.Tensor:
    """Return the row softmax of the products of all pairs of slices.

    Args:
        theta, phi: `(B, C, *spatial)`; axis: 1 for channels, from 2 spatial.
        invert: see `row_softmax`.

    Returns:
        `(B, L, L)`; every row sums to one.
    """
    (energy,) = axis_energies(theta, phi, [axis])
    return row_softmax(energy, invert)


def row_softmax(energy: torch.Tensor, invert: bool = False) -> torch.Tensor:
    """Return the row softmax of E, or of max E − E if `invert`, as in the channel attention of Fu et al. (2019)."""
    if invert:
        energy = energy.amax(-1, keepdim=True) - energy
    return energy.softmax(-1)


def aggregate(affinity: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    """Replace every slice by the mean of all slices, weighted by its row.

    Args:
        affinity: `(B, L, L)`; x: `(B, C, *spatial)` with L slices along `axis`.
    """
    return cascade([affinity], x, [axis])
