"""Sums of probabilities over tiles, mirrored copies and folds while nnU-Net predicts a case, in float32."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_xmodal.evaluation.uncertainty import entropy


@dataclass(frozen=True)
class CaseProbabilities:
    """What the folds say of a case, on the network's grid.

    Attributes:
        mean: float32 `(heads, *spatial)`, mean over mirrored copies and folds.
        entropy: float32 `spatial`, of that mean, in nats.
        mutual_information: float32 `spatial`, the folds' disagreement in nats; 0 for one fold.
        label_maps: one per fold, of its own mean.
    """

    mean: torch.Tensor
    entropy: torch.Tensor
    mutual_information: torch.Tensor
    label_maps: Sequence[np.ndarray]


class FoldProbabilities:
    """The sums of one case.

    nnU-Net's sliding window adds logits in float16; probabilities are added here beside it, tile by tile in its order.
    A fold that it begins anew, with results on the CPU where the GPU's memory does not suffice, is begun anew here.

    Args:
        label_manager: turns logits into probabilities, and these into labels.
    """

    def __init__(self, label_manager: LabelManager) -> None:
        self.label_manager = label_manager
        self._mean: torch.Tensor | None = None
        self._entropies: torch.Tensor | None = None
        self._label_maps: list[np.ndarray] = []

    def begin_fold(self, shape: Sequence[int], slicers: Sequence[tuple], tile_weight: torch.Tensor) -> None:
        """Begin a fold: on the device of the tile's weight.

        Args:
            shape: `spatial` of the padded case.
            slicers: of the tiles, `(channels, *spatial)`, in the order in which they come.
            tile_weight: float32 `patch`.
        """
        heads = self.label_manager.num_segmentation_heads
        self._sums = torch.zeros((heads, *shape), device=tile_weight.device)
        self._weights = torch.zeros(tuple(shape), device=tile_weight.device)
        self._tile_weight, self._slicers = tile_weight, iter(slicers)

    def add_tile(self, probabilities: torch.Tensor) -> None:
        """Add the next tile.

        Args:
            probabilities: `(heads, *patch)`, the mean over its mirrored copies, flipped back.
        """
        slicer = next(self._slicers)
        self._sums[slicer] += probabilities.to(self._sums.device) * self._tile_weight
        self._weights[slicer[1:]] += self._tile_weight

    def end_fold(self, undo_padding: Sequence[slice]) -> None:
        """End a fold whose tiles are all there.

        Args:
            undo_padding: slices `(channels, *spatial)` of the case in the padded one.
        """
        inside = (slice(None), *undo_padding[1:])
        self._sums /= self._weights
        of_fold = self._sums[inside].cpu()
        regions = self.label_manager.has_regions
        if self._mean is None or self._entropies is None:
            self._mean, self._entropies = of_fold.clone(), entropy(of_fold, regions)
        else:
            self._mean += of_fold
            self._entropies += entropy(of_fold, regions)
        self._label_maps.append(np.asarray(self.label_manager.convert_probabilities_to_segmentation(of_fold)))
        del self._sums, self._weights

    def result(self) -> CaseProbabilities:
        """Return what all folds say."""
        assert self._mean is not None and self._entropies is not None, "no fold has been predicted"
        folds = len(self._label_maps)
        mean = self._mean / folds
        of_mean = entropy(mean, self.label_manager.has_regions)
        # never below 0 but by rounding
        disagreement = (of_mean - self._entropies / folds).clamp_min(0) if folds > 1 else torch.zeros_like(of_mean)
        return CaseProbabilities(mean, of_mean, disagreement, self._label_maps)
