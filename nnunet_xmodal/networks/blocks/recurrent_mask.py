"""Recurrent mask refinement (Tang et al., Recurrent Mask Refinement for Few-Shot Medical Image Segmentation, 2021)."""

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.local_prototypes import ClassPrototypes
from nnunet_xmodal.networks.blocks.masked_convolution import (
    NeighbourProducts,
    masked_convolution,
    neighbour_products,
)
from nnunet_xmodal.networks.blocks.pairs import of_shots
from nnunet_xmodal.numerics import full_precision

_ROWS = 4  # of a map in one product; fewer and more take longer on 32×32 positions, forwards and backwards


def local_correlation(a: torch.Tensor, b: torch.Tensor, radius: int) -> torch.Tensor:
    """Return ⟨a_p, b_(p+d)⟩/√C for every shift d of a window, 0 where p + d lies outside.

    Args:
        a, b: `(B, C, h, w)`.
        radius: r of the window.

    Returns:
        `(B, (2r+1)², h, w)`, shifts row by row.
    """
    channels, _, width = a.shape[1:]
    side, wide = 2 * radius + 1, width + 2 * radius
    padded = F.pad(b, [radius] * 4)
    shifts = torch.arange(side, device=a.device)
    column = torch.arange(width, device=a.device)[:, None, None] + shifts  # w 1 side
    found = []
    for at, rows in enumerate(a.split(_ROWS, 2)):  # all products with the rows around, a third of those with all rows
        around = padded[:, :, _ROWS * at : _ROWS * at + rows.shape[2] + 2 * radius]
        products = rows.flatten(2).mT @ around.flatten(2)  # B nw (n+2r)(w+2r)
        row = torch.arange(rows.shape[2], device=a.device)[:, None, None, None] + shifts[:, None]  # n 1 side 1
        index = (row * wide + column).reshape(-1, side * side)
        found.append(products.gather(2, index.expand(len(a), -1, -1)))  # B nw side²
    return (torch.cat(found, 1) / channels**0.5).mT.unflatten(2, (-1, width))


class ContextRelation(nn.Module):
    """The context relation encoder: how the foreground of a mask differs from the background around it.

        f = relu(norm(conv(y ⊙ x))), b = relu(norm(conv((1−y) ⊙ x)))
        z = relu(norm(conv₁([f, correlation of f with b in a window])))

    Args:
        channels: C.
        width: of z.
        radius: of the window in positions.

    Both convolutions go through `masked_convolution`: the products of an image serve all masks of it.

    Shape: features `(B, C, h, w)` and mask `(B, h, w)`, 1 for foreground → `(B, width, h, w)`. With `image`, `(N,)`,
    masks are `(N, h, w)`, each of the features of this number, and so are results.
    """

    def __init__(self, channels: int, width: int = 64, radius: int = 5) -> None:
        super().__init__()
        self.radius = radius
        self.of_foreground = _convolution(channels, channels, 3)
        self.of_background = _convolution(channels, channels, 3)
        self.join = _convolution(channels + (2 * radius + 1) ** 2, width, 1)

    def forward(self, features: torch.Tensor, mask: torch.Tensor, image: torch.Tensor | None = None) -> torch.Tensor:
        """Return z; see the class."""
        return self.of_mask(self.products(features), mask, image)

    def products(self, features: torch.Tensor) -> NeighbourProducts:
        """Return what all masks of these features share."""
        return neighbour_products(features, self.of_foreground[0].weight, self.of_background[0].weight)

    def of_mask(
        self, products: NeighbourProducts, mask: torch.Tensor, image: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return z of what `products` gave; see the class."""
        shown, hidden = masked_convolution(products, mask, image)
        foreground, background = self.of_foreground[1:](shown), self.of_background[1:](hidden)
        with full_precision(foreground):
            correlation = local_correlation(foreground.float(), background.float(), self.radius)
        return self.join(torch.cat((correlation, foreground), 1))


class RecurrentPrototypes(nn.Module):
    """Scores by class prototypes of context relations; what is predicted is the mask of the next round.

    The first mask of the query is the mean of the support's: the query lies about where the support does. The paper
    registers both images for it. Every later one is where the foreground's score is the larger one, as in the published
    configuration, and passes no gradient.

    Args:
        channels: C.
        rounds: how often a mask is predicted; 4 in the published configuration.
        radius: see ContextRelation.

    Shape: as LocalPrototypes: support features `(B, S, C, h, w)`, their mask `(B, S, h, w)` and query features
    `(B, C, h, w)` of the same size → scores of background and foreground `(B, 2, h, w)`. `exists`, `(B, S)` bool,
    leaves out shots. `pair` as there.
    """

    def __init__(self, channels: int, rounds: int = 4, radius: int = 5) -> None:
        super().__init__()
        self.relation = ContextRelation(channels, radius=radius)
        self.prototypes = ClassPrototypes()
        self.rounds = rounds

    def forward(
        self,
        support: torch.Tensor,
        mask: torch.Tensor,
        query: torch.Tensor,
        exists: torch.Tensor | None = None,
        pair: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scores of the last round; see the class."""
        mask, shots = mask.to(query.dtype), support.shape[1]
        of_support = self.relation(support.flatten(0, 1), mask.flatten(0, 1), of_shots(pair, shots))
        of_support = of_support.unflatten(0, (-1, shots))
        counted = torch.ones_like(mask[:, :, 0, 0]) if exists is None else exists.to(mask.dtype)  # B S
        of_query = torch.einsum("bs,bshw->bhw", counted, mask) / counted.sum(1).clamp(min=1)[:, None, None]
        products, scores = self.relation.products(query), query.new_zeros(0)
        for left in reversed(range(self.rounds)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and left == 0):  # a mask hands on no gradient
                seen = self.relation.of_mask(products, of_query, pair)
                scores = self.prototypes(of_support, mask, seen, exists)
            of_query = (scores[:, 1] > scores[:, 0]).to(query.dtype)
        return scores


def _convolution(channels: int, width: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
