"""nnU-Net's patches without a look at the labels; and pairs of patches from different cases."""

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

    Raises:
        XModalError: for fewer than two cases.
    """

    def __init__(self, data: PreprocessedCases, batch_size: int, *args: Any, **kwargs: Any) -> None:
        if len(data.identifiers) < 2:
            raise XModalError(
                "streams are drawn from different cases, but this fold has a single training case: train with more "
                "cases or with nnUNetTrainerCMFT."
            )
        super().__init__(data, 2 * batch_size, *args, **kwargs)

    def get_indices(self) -> list[str]:
        """Draw 2B cases, of which case i and case B + i differ."""
        n = self.batch_size // 2
        first = np.random.choice(len(self.indices), n)
        second = (first + 1 + np.random.choice(len(self.indices) - 1, n)) % len(self.indices)
        return [self.indices[index] for index in (*first, *second)]
