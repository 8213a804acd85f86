"""Episodes of one class and one shot, without labels: superpixels of a slice, and the same ones transformed.

A few-shot network learns to find a class in a query that a support shows; here the class is a superpixel (ALPNet,
2020), the support is the slice that it lies in, and the query is what a transform makes of that slice. Several
superpixels of a slice are as many episodes about one pair of images, which the backbone sees once.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import DataLoader

from nnunet_xmodal.datasets.preprocessed_cases import PreprocessedCases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.padding import background_of
from nnunet_xmodal.tasks.few_shot.episode_transforms import ALPNET, unchanged
from nnunet_xmodal.tasks.few_shot.superpixel_cache import SuperpixelMaps

Transform = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Image `(C, H, W)` and mask `(H, W)` to both of the same shapes."""

_ATTEMPTS = 100  # a transform that empties this many masks in a row empties all


SUPERPIXELS_PER_PAIR = 8


class EpisodeLoader(DataLoader):
    """Batches of episodes: a case and one of its slices, each drawn uniformly, and some of its superpixels.

    A superpixel that a transform or the border of the patch leaves empty is left out; where all are, case and slice are
    drawn again.

    Args:
        dataset: of nnU-Net, with `identifiers` and `load_case`; one slice of a case is read at a time, labels are not.
        maps: of all its cases.
        patch_size: H, W; see `on_patch`.
        batch_size: B, pairs of a support and a query.
        superpixels_per_pair: K at most, fewer where a slice has fewer.
        transform_query, transform_support: the paper transforms the query; ALPNet's code transforms both.
        padded_by_background: False pads with 0.

    A batch holds N episodes, of each pair between 1 and K:

        data           float32 (B, C, H, W), queries
        support        float32 (B, 1, C, H, W)
        query_mask     uint8 (N, H, W), 1 in the superpixel
        support_mask   uint8 (N, 1, H, W)
        pair           int64 (N,), which of the B images an episode is about
        keys           B names of cases
        slices         B numbers of slices, as they are preprocessed
        superpixels    N numbers in the maps of the slices, from 1

    Raises:
        XModalError: if no case has a superpixel; in a batch, if transforms leave nothing.
    """

    def __init__(
        self,
        dataset: PreprocessedCases,
        maps: SuperpixelMaps,
        patch_size: Sequence[int],
        batch_size: int = 1,
        transform_query: Transform = ALPNET,
        transform_support: Transform = unchanged,
        superpixels_per_pair: int = SUPERPIXELS_PER_PAIR,
        padded_by_background: bool = True,
    ) -> None:
        super().__init__(dataset, batch_size, infinite=True)
        slices = {case: np.flatnonzero(maps.counts[case]) for case in dataset.identifiers}
        self.slices = {case: indices for case, indices in slices.items() if len(indices)}
        self.indices = list(self.slices)
        if not self.indices:
            raise XModalError(
                f"none of the {len(slices)} training cases has a superpixel: are the images empty, or smaller than one "
                "superpixel?"
            )
        self.maps, self.patch_size = maps, tuple(patch_size)
        self.transform_query, self.transform_support = transform_query, transform_support
        self.superpixels_per_pair, self.padded_by_background = superpixels_per_pair, padded_by_background

    def generate_train_batch(self) -> dict:
        """Draw a batch, see the class."""
        pairs = [self._pair() for _ in range(self.batch_size)]
        query_maps, support_maps = ([pair[name] for pair in pairs] for name in ("query_map", "support_map"))
        superpixels = [pair["superpixels"] for pair in pairs]
        return {
            "data": torch.from_numpy(np.stack([pair["query"] for pair in pairs])),
            "support": torch.from_numpy(np.stack([pair["support"] for pair in pairs])[:, None]),
            "query_mask": _masks(query_maps, superpixels),
            "support_mask": _masks(support_maps, superpixels)[:, None],
            "pair": torch.repeat_interleave(torch.tensor([len(numbers) for numbers in superpixels])),
            "keys": [pair["case"] for pair in pairs],
            "slices": [pair["slice"] for pair in pairs],
            "superpixels": [number for numbers in superpixels for number in numbers],
        }

    def _pair(self) -> dict[str, Any]:
        for _ in range(_ATTEMPTS):
            case, index, superpixels = self.drawn()
            image = np.asarray(self._data.load_case(case)[0][:, index], np.float32)
            image = on_patch(image, self.patch_size, background_of(image) if self.padded_by_background else 0)
            of_slice = on_patch(self.maps.slice(case, index), self.patch_size)
            support, support_map = self.transform_support(image, of_slice)
            query, query_map = self.transform_query(image, of_slice)
            left = [number for number in superpixels if (support_map == number).any() and (query_map == number).any()]
            if left:
                return {
                    "query": query,
                    "query_map": query_map,
                    "support": support,
                    "support_map": support_map,
                    "case": case,
                    "slice": index,
                    "superpixels": left,
                }
        raise XModalError(
            f"{_ATTEMPTS} times in a row all superpixels were empty on a patch of "
            f"{'×'.join(map(str, self.patch_size))} pixels after transforms, the last time those of {case}: plan with "
            "a larger patch, or transform less."
        )

    def drawn(self) -> tuple[str, int, list[int]]:
        """Draw a case, a slice of it, and the numbers of superpixels in that."""
        case = self.indices[np.random.randint(len(self.indices))]
        index = int(np.random.choice(self.slices[case]))
        numbers = np.random.permutation(self.maps.counts[case][index])[: self.superpixels_per_pair]
        return case, index, (1 + numbers).tolist()


def _masks(maps: Sequence[np.ndarray], superpixels: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return uint8 `(N, H, W)`, the superpixels of one map after the other."""
    masks = [of_pair == number for of_pair, numbers in zip(maps, superpixels) for number in numbers]
    return torch.from_numpy(np.stack(masks).astype(np.uint8))


def on_patch(image: np.ndarray, size: Sequence[int], fill: np.ndarray | float = 0) -> np.ndarray:
    """Cut or pad the last two axes to `size`, the same on both sides, the odd pixel behind.

    Args:
        fill: the value of what is padded, or one per channel, `(C, 1, 1)`; 0 is what nnU-Net's prediction pads with.
    """
    for axis, wanted in zip((-2, -1), size):
        missing = wanted - image.shape[axis]
        before = abs(missing) // 2
        if missing > 0:
            shape, inside = list(image.shape), [slice(None)] * image.ndim
            shape[axis], inside[axis] = wanted, slice(before, before + image.shape[axis])
            padded = np.empty(shape, image.dtype)
            padded[...] = fill
            padded[tuple(inside)] = image
            image = padded
        elif missing < 0:
            image = image.take(range(before, before + wanted), axis)
    return image
