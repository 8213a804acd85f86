"""nnU-Net's patches without a look at the labels; and pairs of patches from different cases."""

from collections.abc import Collection
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from nnunet_xmodal.datasets.preprocessed_cases import PreprocessedCases
from nnunet_xmodal.errors import XModalError


class UnlabelledLoader(nnUNetDataLoader):
    """Batches of patches drawn without labels: with an ignore label, nnU-Net would look for annotated voxels."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, oversample_foreground_percent=0.0, **kwargs)
        self.has_ignore = False


class UnpairedLoader(UnlabelledLoader):
    """Batches of twice the size, whose sample i and sample B + i come from different cases.

    Args:
        without_a, without_b: cases that lack the first stream, and so are never among the first B samples, and those
            that lack the second, which are never among the others.

    Raises:
        XModalError: where no two cases have a stream each.
    """

    def __init__(
        self,
        data: PreprocessedCases,
        batch_size: int,
        *args: Any,
        without_a: Collection[str] = (),
        without_b: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        cases = list(data.identifiers)
        self.having_b = np.array([number for number, case in enumerate(cases) if case not in without_b])
        having_a = [number for number, case in enumerate(cases) if case not in without_a]
        self.having_a = np.array([number for number in having_a if (self.having_b != number).any()])
        if not len(self.having_a):
            raise XModalError(
                "streams are drawn from different cases, but this fold has a single training case: train with more "
                "cases or with nnUNetTrainerCMFT."
                if len(cases) < 2
                else "streams are drawn from different cases, but no two training cases of this fold have one each: "
                "train with more cases."
            )
        super().__init__(data, 2 * batch_size, *args, **kwargs)

    def get_indices(self) -> list[str]:
        """Draw 2B cases, of which case i and case B + i differ."""
        first = np.random.choice(self.having_a, self.batch_size // 2)
        second = [np.random.choice(self.having_b[self.having_b != number]) for number in first]
        return [self.indices[number] for number in (*first, *second)]
