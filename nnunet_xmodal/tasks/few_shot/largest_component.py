"""Keep of every organ the largest piece."""

import cc3d
import numpy as np
import torch


@torch.inference_mode()
def keep_largest_components(logits: torch.Tensor, regions: bool) -> torch.Tensor:
    """Take away what is predicted of a label beside its largest component; neighbours share a side, edge or corner.

    Args:
        logits: `(1 + L, slices, H, W)`, without background `(L, slices, H, W)`; changed in place.
        regions: whether every output is a region of its own, predicted where its logit is positive.

    Returns:
        The logits. A piece that is taken away becomes background: labels get the lowest logit there is in the case,
        as does a region in its own output.
    """
    winner = None if regions else logits.argmax(0)
    lowest = logits.min()
    first = 0 if regions else 1
    for output in range(first, len(logits)):
        predicted = logits[output] > 0 if winner is None else winner == output
        mask = predicted.cpu().numpy()
        if not mask.any():
            continue
        largest = cc3d.largest_k(mask.view(np.uint8), k=1, connectivity=26)  # of bool some versions make mistakes
        lost = torch.from_numpy(mask & (largest == 0)).to(logits.device)
        for other in [output] if regions else range(first, len(logits)):
            logits[other][lost] = lowest
    return logits
