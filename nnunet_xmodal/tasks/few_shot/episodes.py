"""Episodes of one class and one shot, without labels: a superpixel of a slice, and the same one transformed.

A few-shot network learns to find a class in a query that a support shows; here the class is a superpixel (ALPNet,
2020), the support is the slice that it lies in, and the query is what a transform makes of that slice.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import DataLoader

from nnunet_xmodal.datasets.preprocessed_cases import PreprocessedCases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.few_shot.episode_transforms import ALPNET, unchanged
from nnunet_xmodal.tasks.few_shot.superpixel_cache import SuperpixelMaps

Transform = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Image `(C, H, W)` and mask `(H, W)` to both of the same shapes."""

_ATTEMPTS = 100  # a transform that empties this many masks in a row empties all


class EpisodeLoader(DataLoader):
    """Batches of episodes: a case, one of its slices with superpixels, and one of those, each drawn uniformly.

    A superpixel that a transform or the border of the patch leaves empty is drawn again, with its case.

    Args:
        dataset: of nnU-Net, with `identifiers` and `load_case`; one slice of a case is read at a time, labels are not.
        maps: of all its cases.
        patch_size: H, W; see `on_patch`.
        transform_query, transform_support: the paper transforms the query; ALPNet's code transforms both.

    A batch holds

        data           float32 (B, C, H, W), queries
        query_mask     uint8 (B, H, W), 1 in the superpixel
        support        float32 (B, 1, C, H, W)
        support_mask   uint8 (B, 1, H, W)
        keys           names of the cases
        slices         their slices
        superpixels    number in the map of the slice, from 1

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

    def generate_train_batch(self) -> dict:
        """Draw a batch, see the class."""
        episodes = [self._episode() for _ in range(self.batch_size)]
        query, query_mask, support, support_mask, keys, slices, superpixels = zip(*episodes)
        return {
            "data": torch.from_numpy(np.stack(query)),
            "query_mask": torch.from_numpy(np.stack(query_mask)),
            "support": torch.from_numpy(np.stack(support)[:, None]),
            "support_mask": torch.from_numpy(np.stack(support_mask)[:, None]),
            "keys": list(keys),
            "slices": list(slices),
            "superpixels": list(superpixels),
        }

    def _episode(self) -> tuple:
        for _ in range(_ATTEMPTS):
            case, index, superpixel = self.drawn()
            image = np.asarray(self._data.load_case(case)[0][:, index], np.float32)
            image = on_patch(image, self.patch_size)
            mask = on_patch((self.maps.slice(case, index) == superpixel).astype(np.uint8), self.patch_size)
            support, support_mask = self.transform_support(image, mask)
            query, query_mask = self.transform_query(image, mask)
            if support_mask.any() and query_mask.any():
                return query, query_mask, support, support_mask, case, index, superpixel
        raise XModalError(
            f"{_ATTEMPTS} superpixels in a row were empty on a patch of {'×'.join(map(str, self.patch_size))} pixels "
            f"after transforms, the last one in slice {index} of {case}: plan with a larger patch, or transform less."
        )

    def drawn(self) -> tuple[str, int, int]:
        """Draw a case, a slice of it, and the number of a superpixel in that."""
        case = self.indices[np.random.randint(len(self.indices))]
        index = int(np.random.choice(self.slices[case]))
        return case, index, int(np.random.randint(1, self.maps.counts[case][index] + 1))


def on_patch(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Cut or fill the last two axes to `size`, the same on both sides, the odd pixel behind.

    Fills with 0, which is also what nnU-Net's prediction does with an image that is smaller than a patch.
    """
    for axis, wanted in zip((-2, -1), size):
        missing = wanted - image.shape[axis]
        before = abs(missing) // 2
        if missing > 0:
            widths = [(0, 0)] * image.ndim
            widths[axis] = (before, missing - before)
            image = np.pad(image, widths)
        elif missing < 0:
            image = image.take(range(before, before + wanted), axis)
    return image
