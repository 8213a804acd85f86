"""Adaptive local prototypes (ALP: Ouyang et al., Self-supervision with Superpixels, 2020), CRTPNet's Eq. 2–5.

A query position is as similar to a class as the prototypes of the class that it resembles most say:

    p_mn  = mean of the features in window (m, n) of a support image                  (Eq. 2)
    p^g   = Σ y·f / Σ y over all positions of all shots                               (Eq. 3)
    s_k   = α·cosine(p_k, f_query)                                                    (Eq. 4)
    score = Σ_k softmax_k(s)·s_k                                                      (Eq. 5)

Eq. 5 as Huang et al. (Cross-Reference Transformer for Few-shot Medical Image Segmentation, 2023) print it has no sum
over k; this is the form of the work that they take it from.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.pairs import of_pairs
from nnunet_xmodal.numerics import full_precision

ALPHA = 20.0
"""α of Eq. 4; no score is larger than α or smaller than −α."""

TRAINING_WINDOWS, WINDOWS = 8, 16
"""Windows along each side of the map: ALPNet's code cuts 32×32 positions into 8×8 in training, 16×16 in evaluation."""

_EPSILON = 1e-4  # shorter features count as if they were this long, as in ALPNet's code


class Prototypes(NamedTuple):
    """Of the background and the foreground; the last of the K is the class prototype.

    Attributes:
        vectors: `(B, 2, K, C)`.
        valid: `(B, 2, K)` bool, those that count.
    """

    vectors: torch.Tensor
    valid: torch.Tensor


class PrototypeScores(nn.Module, ABC):
    """The base of what scores positions by prototypes: Eq. 4 and 5 with those of a subclass."""

    def forward(
        self,
        support: torch.Tensor,
        mask: torch.Tensor,
        query: torch.Tensor,
        exists: torch.Tensor | None = None,
        pair: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scores of background and foreground; see the subclasses."""
        support, query = of_pairs(support, query, pair)
        with full_precision(query):
            return _scores(self.prototypes(support, mask, exists), query)

    @abstractmethod
    def prototypes(self, support: torch.Tensor, mask: torch.Tensor, exists: torch.Tensor | None = None) -> Prototypes:
        """Return the prototypes of background and foreground."""


class LocalPrototypes(PrototypeScores):
    """Scores by local prototypes on a grid of windows and, where those cannot hold a class, by its class prototype.

    - A window is a local prototype of a class if the mean of the class's mask in it exceeds the threshold.
    - Background: the windows; the class prototype if there is none.
    - Foreground: the windows and the class prototype if the mean of the mask in some window of the training's grid
      reaches the threshold, else the class prototype alone.
    - The prototypes of all shots are one set.
    - A class without a position in any support mask scores −20 everywhere.

    A window at the lower or right border that reaches beyond the map is the mean of what lies inside. Windows that do
    not count get no weight in the softmax, so that shapes never depend on the masks. All of it runs in float32 with
    autocast off.

    Args:
        training_window: positions along each side of a window in training; None divides every side of the map by 8,
            rounded up: windows of 4×4 on 32×32, of 2×2 on 16×16.
        window: in evaluation; None divides by 16: 2×2 on 32×32, single positions on 16×16.
        threshold: 0.95 in ALPNet's code.

    Shape: support features `(B, S, C, h, w)`, their mask `(B, S, h, w)`, 1 for foreground and soft between, and query
    features `(B, C, h', w')` → scores of background and foreground `(B, 2, h', w')`. `exists`, `(B, S)` bool, leaves
    out shots. With `pair`, `(N,)`, masks are `(N, S, h, w)`, each about the support and query of this number, and so
    are `exists` and results.
    """

    def __init__(self, training_window: int | None = None, window: int | None = None, threshold: float = 0.95) -> None:
        super().__init__()
        self.training_window, self.window = training_window, window
        self.threshold = threshold

    def prototypes(self, support: torch.Tensor, mask: torch.Tensor, exists: torch.Tensor | None = None) -> Prototypes:
        """Return all windows of all shots and the class prototype, K = S·⌈h/window⌉·⌈w/window⌉ + 1."""
        support = _in_full_precision(support)
        masks = _both_masks(mask.to(support.dtype), exists)  # B 2 S h w
        coarse = _window(self.training_window, TRAINING_WINDOWS, mask.shape[-2:])
        window = coarse if self.training else _window(self.window, WINDOWS, mask.shape[-2:])
        local = _pooled(support, window).transpose(1, 2).flatten(2).mT  # B S·n C
        of_class, has_class = _class_prototypes(support, masks)  # B 2 C, B 2

        inside = (_pooled(masks, window) > self.threshold).flatten(2)  # B 2 S·n
        large = (_pooled(masks[:, 1], coarse) >= self.threshold).flatten(1).any(1)  # B
        background, foreground = inside[:, 0], inside[:, 1] & large[:, None]
        alone = torch.stack((~background.any(1), torch.ones_like(large)), 1)  # B 2

        vectors = torch.cat((local[:, None].expand(-1, 2, -1, -1), of_class[:, :, None]), 2)
        local_valid = torch.stack((background, foreground), 1)
        return Prototypes(vectors, torch.cat((local_valid, (has_class & alone)[..., None]), 2))


class ClassPrototypes(PrototypeScores):
    """PANet's (Wang et al., 2019): one prototype per class, Eq. 3, and α·cosine as its score.

    PANet averages the prototypes of the shots; here one is pooled over the positions of all of them.

    Shape: as LocalPrototypes; a class without a position in any support mask scores −20 everywhere.
    """

    def prototypes(self, support: torch.Tensor, mask: torch.Tensor, exists: torch.Tensor | None = None) -> Prototypes:
        """Return the class prototypes, K = 1."""
        support = _in_full_precision(support)
        of_class, has_class = _class_prototypes(support, _both_masks(mask.to(support.dtype), exists))
        return Prototypes(of_class[:, :, None], has_class[..., None])


def _in_full_precision(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _both_masks(mask: torch.Tensor, exists: torch.Tensor | None) -> torch.Tensor:
    """`(B, S, h, w)` → of background and foreground, 0 in shots that are left out, `(B, 2, S, h, w)`."""
    masks = torch.stack((1 - mask, mask), 1)
    return masks if exists is None else masks * exists[:, None, :, None, None]


def _class_prototypes(support: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 3 for `(B, S, C, h, w)` and `(B, 2, S, h, w)` → `(B, 2, C)`, and whether there is any position, `(B, 2)`."""
    size = masks.sum((2, 3, 4))
    total = torch.einsum("bjshw,bschw->bjc", masks, support)
    return total / size.clamp(min=torch.finfo(size.dtype).tiny)[..., None], size > 0


def _window(fixed: int | None, windows: int, size: Sequence[int]) -> tuple[int, int]:
    """Return the positions of a window along y and x: as they are fixed, or so that `windows` cover a side."""
    height, width = (fixed or -(-side // windows) for side in size)
    return height, width


def _pooled(x: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """Eq. 2: `(…, h, w)` → `(…, ⌈h/window⌉, ⌈w/window⌉)`."""
    pooled = F.avg_pool2d(x.flatten(0, -3), window, ceil_mode=True)
    return pooled.unflatten(0, x.shape[:-2])


def _scores(prototypes: Prototypes, query: torch.Tensor) -> torch.Tensor:
    """Eq. 4 and 5: query features `(B, C, h', w')` → `(B, 2, h', w')`."""
    positions = F.normalize(_in_full_precision(query).flatten(2), dim=1, eps=_EPSILON)  # B C N
    vectors = F.normalize(prototypes.vectors, dim=-1, eps=_EPSILON)  # B 2 K C
    similarity = ALPHA * (vectors @ positions[:, None])  # B 2 K N

    known = prototypes.valid.any(2, keepdim=True)  # B 2 1
    counted = prototypes.valid | ~known  # a softmax over nothing would be NaN
    weights = similarity.masked_fill(~counted[..., None], float("-inf")).softmax(2)
    score = (weights * similarity).sum(2)  # B 2 N
    return torch.where(known, score, -ALPHA).unflatten(2, query.shape[2:])
