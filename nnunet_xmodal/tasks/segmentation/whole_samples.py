"""Training samples with all streams, also where some cases lack one."""

from collections.abc import Collection, Iterator

import torch

from nnunet_xmodal.datasets.batch_check import check_batch

_MOST_BATCHES = 25  # in which they are looked for


def whole_samples(
    batches: Iterator[dict], missing: Collection[str], count: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Draw samples with all streams, of as many batches as that takes; fewer where such cases are rare.

    Args:
        batches: of nnU-Net's loader.
        missing: cases that lack a stream.
        count: how many samples are wanted.

    Returns:
        Images `(count, C, *spatial)`, and targets from fine to coarse, `(count, 1 or regions, *spatial)`.
    """
    data: list[torch.Tensor] = []
    levels: list[list[torch.Tensor]] = []
    for _ in range(_MOST_BATCHES):
        batch = next(batches)
        check_batch(batch)
        whole = [number for number, case in enumerate(batch["keys"]) if case not in missing]
        target = batch["target"] if isinstance(batch["target"], list) else [batch["target"]]
        data.append(batch["data"][whole])
        levels.append([level[whole] for level in target])
        if sum(map(len, data)) >= count:
            break
    return torch.cat(data)[:count], [torch.cat(level)[:count] for level in zip(*levels)]
