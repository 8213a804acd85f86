"""Convolutions of one image under many masks.

A convolution is linear and a mask is one number per position: what a position adds to its neighbours is computed once,
and a mask takes of it what it shows.
"""

from typing import NamedTuple

import torch

from nnunet_xmodal.numerics import full_precision


class NeighbourProducts(NamedTuple):
    """What all masks of an image share; of both kernels, one behind the other, in float32.

    Attributes:
        parts: what every position adds at each of its neighbours, `(B, h, w, 9, 2·O)`, in the order of the kernel.
        whole: the convolution without a mask, `(B, 2·O, h, w)`.
    """

    parts: torch.Tensor
    whole: torch.Tensor


def neighbour_products(x: torch.Tensor, of_shown: torch.Tensor, of_hidden: torch.Tensor) -> NeighbourProducts:
    """Multiply every position by every tap of two 3×3 kernels.

    Args:
        x: images `(B, C, h, w)`.
        of_shown, of_hidden: kernels `(O, C, 3, 3)` of what a mask shows and of what it hides.
    """
    weight = torch.cat((of_shown, of_hidden)).float().permute(1, 2, 3, 0)  # C 3 3 2·O
    with full_precision(x):
        parts = x.float().flatten(2).mT @ weight.flatten(1)  # B hw 9·2·O
        parts = parts.unflatten(2, (9, -1)).unflatten(1, x.shape[2:])
        all_of_each = torch.arange(len(x), device=x.device)
        return NeighbourProducts(parts, _summed(parts, parts.new_ones(parts.shape[:3]), all_of_each))


def masked_convolution(
    products: NeighbourProducts, mask: torch.Tensor, image: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Convolve what a mask shows, y ⊙ x, by one kernel and what it hides, (1 − y) ⊙ x, by the other.

    Outside of the image are zeros. Time goes with the positions that a mask shows, or hides where these are fewer. No
    gradient goes to the masks.

    Args:
        products: of B images, see `neighbour_products`.
        mask: y of N masks, `(N, h, w)`, from 0 to 1.
        image: which of the images each mask is of, `(N,)`; None for N = B, in order.

    Returns:
        Both convolutions, `(N, O, h, w)` in float32.
    """
    mask = mask.detach().float()
    if image is None:
        image = torch.arange(len(mask), device=mask.device)
    mostly = mask.mean((1, 2))[:, None, None] > 0.5
    of_shown, of_hidden = _summed(products.parts, torch.where(mostly, 1 - mask, mask), image).chunk(2, 1)
    all_shown, all_hidden = products.whole[image].chunk(2, 1)
    mostly = mostly[:, None]
    return (
        torch.where(mostly, all_shown - of_shown, of_shown),
        torch.where(mostly, of_hidden, all_hidden - of_hidden),
    )


def _summed(parts: torch.Tensor, mask: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Of every mask and neighbour the sum of what the mask shows, `(N, O, h, w)`."""
    number, row, column = _shown(mask)  # E each
    shown = parts[image[number], row, column] * mask[number, row, column][:, None, None]  # E 9 O
    # tap k of the kernel is what a position adds k − 1 before it; one row and column around take what falls outside
    height, width = mask.shape[1] + 2, mask.shape[2] + 2
    back = torch.arange(2, -1, -1, device=mask.device)
    neighbour = ((number * height + row) * width + column)[:, None] + (back[:, None] * width + back).flatten()
    total = parts.new_zeros(len(mask) * height * width, parts.shape[-1])
    total = total.index_add(0, neighbour.flatten(), shown.flatten(0, 1))
    return total.view(len(mask), height, width, -1)[:, 1:-1, 1:-1].permute(0, 3, 1, 2)


def _shown(mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The positions where a mask is not 0; all of them where it has no values (device "meta")."""
    if not mask.is_meta:
        return mask.nonzero(as_tuple=True)
    return torch.unravel_index(torch.arange(mask.numel(), device=mask.device), mask.shape)
