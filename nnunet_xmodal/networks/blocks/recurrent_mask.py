"""Recurrent mask refinement (Tang et al., Recurrent Mask Refinement for Few-Shot Medical Image Segmentation, 2021)."""

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.local_prototypes import ClassPrototypes
from nnunet_xmodal.numerics import full_precision


def local_correlation(a: torch.Tensor, b: torch.Tensor, radius: int) -> torch.Tensor:
    """Return ⟨a_p, b_(p+d)⟩/√C for every shift d of a window, 0 where p + d lies outside.

    Args:
        a, b: `(B, C, h, w)`.
        radius: r of the window.

    Returns:
        `(B, (2r+1)², h, w)`, shifts row by row.
    """
    _, channels, height, width = a.shape
    side = 2 * radius + 1
    padded = F.pad(b, [radius] * 4)
    products = a.flatten(2).mT @ padded.flatten(2)  # B hw (h+2r)(w+2r)
    rows, columns = (torch.arange(n, device=a.device) for n in (height, width))
    shifts = torch.arange(side, device=a.device)
    row = rows[:, None, None, None] + shifts[:, None]  # h 1 side 1
    column = columns[:, None, None] + shifts  # w 1 side
    index = (row * (width + 2 * radius) + column).reshape(height * width, side * side)
    found = products.gather(2, index.expand(len(a), -1, -1)) / channels**0.5  # B hw side²
    return found.mT.unflatten(2, (height, width))


class ContextRelation(nn.Module):
    """The context relation encoder: how the foreground of a mask differs from the background around it.

        f = relu(norm(conv(y ⊙ x))), b = relu(norm(conv((1−y) ⊙ x)))
        z = relu(norm(conv₁([f, correlation of f with b in a window])))

    Args:
        channels: C.
        width: of z.
        radius: of the window in positions.

    Shape: features `(B, C, h, w)` and mask `(B, h, w)`, 1 for foreground → `(B, width, h, w)`.
    """

    def __init__(self, channels: int, width: int = 64, radius: int = 5) -> None:
        super().__init__()
        self.radius = radius
        self.of_foreground = _convolution(channels, channels, 3)
        self.of_background = _convolution(channels, channels, 3)
        self.join = _convolution(channels + (2 * radius + 1) ** 2, width, 1)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return z; see the class."""
        mask = mask[:, None].to(features.dtype)
        foreground = self.of_foreground(features * mask)
        background = self.of_background(features * (1 - mask))
        with full_precision(features):
            correlation = local_correlation(foreground.float(), background.float(), self.radius)
        return self.join(torch.cat((correlation.to(foreground.dtype), foreground), 1))


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
    leaves out shots.
    """

    def __init__(self, channels: int, rounds: int = 4, radius: int = 5) -> None:
        super().__init__()
        self.relation = ContextRelation(channels, radius=radius)
        self.prototypes = ClassPrototypes()
        self.rounds = rounds

    def forward(
        self, support: torch.Tensor, mask: torch.Tensor, query: torch.Tensor, exists: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the scores of the last round; see the class."""
        mask = mask.to(query.dtype)
        of_support = self.relation(support.flatten(0, 1), mask.flatten(0, 1)).unflatten(0, support.shape[:2])
        counted = torch.ones_like(mask[:, :, 0, 0]) if exists is None else exists.to(mask.dtype)  # B S
        of_query = torch.einsum("bs,bshw->bhw", counted, mask) / counted.sum(1).clamp(min=1)[:, None, None]
        scores = query.new_zeros(0)
        for _ in range(self.rounds):
            scores = self.prototypes(of_support, mask, self.relation(query, of_query), exists)
            of_query = (scores[:, 1] > scores[:, 0]).to(query.dtype)
        return scores


def _convolution(channels: int, width: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
