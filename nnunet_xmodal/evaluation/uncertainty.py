"""How sure a model is of every voxel, and how far its folds agree: float32, on probabilities `(K, *spatial)`.

Entropy of the mean prediction is all of the uncertainty; what is left of it when the mean entropy of the members is
taken away is their mutual information, which is large where they are sure of different answers (Smith and Gal,
UAI 2018). Both in nats. Of regions, which are not exclusive, the binary entropies are added up.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch


def entropy(probabilities: torch.Tensor, regions: bool = False) -> torch.Tensor:
    """Return the entropy of every voxel in nats, `(K, *spatial)` → float32 `spatial`.

    Args:
        probabilities: of exclusive labels, with the background; or of regions, each against the rest.
    """
    p = probabilities.float()
    total = -torch.xlogy(p, p).sum(0)
    return total - torch.xlogy(1 - p, 1 - p).sum(0) if regions else total


def agreement(label_maps: Sequence[np.ndarray], labels: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """Return each label's mean Dice over all pairs of label maps: a forecast of its Dice with a reference.

    Roy et al., NeuroImage 195, 2019, by samples of dropout; here by folds.

    Args:
        label_maps: of one case by several models, all of one shape.
        labels: name → values.

    Returns:
        NaN where there are no pairs, or no pair in which the label was predicted.
    """
    found = {}
    for name, values in labels.items():
        masks = [np.isin(label_map, values) for label_map in label_maps]
        sizes = [int(np.count_nonzero(mask)) for mask in masks]
        dice = [
            2 * int(np.count_nonzero(masks[i] & masks[j])) / (sizes[i] + sizes[j])
            for i, j in combinations(range(len(masks)), 2)
            if sizes[i] + sizes[j]
        ]
        found[name] = float(np.mean(dice)) if dice else float("nan")
    return found
