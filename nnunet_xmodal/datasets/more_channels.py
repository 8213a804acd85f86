"""Preprocessed cases with channels that were computed from them, read from a file as nnU-Net reads its own."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnunet_xmodal.datasets.preprocessed_cases import CasesOnDisk


class StackedChannels:
    """Volumes on one grid as if they were one array; only what is asked for is read.

    Args:
        parts: `(C_i, *spatial)` each, arrays or what nnU-Net's dataset opens.
    """

    def __init__(self, *parts: Any) -> None:
        self.parts = parts
        self.shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
        self.ndim, self.dtype = len(self.shape), np.dtype(np.float32)

    def __getitem__(self, key: slice | tuple) -> np.ndarray:
        """Return `(ΣC_i, *cut)` of all channels: the first slice of the key must be a whole one."""
        first = key[0] if isinstance(key, tuple) else key
        if first != slice(None):
            raise IndexError(f"channels are read together, and {first} are some of them.")
        return np.concatenate([np.asarray(part[key]) for part in self.parts])


class WithMoreChannels:
    """nnU-Net's dataset with more channels behind those of every case.

    Args:
        dataset: of nnU-Net.
        more: name of a case → `(C, *spatial)`.
    """

    def __init__(self, dataset: CasesOnDisk, more: Callable[[str], Any]) -> None:
        self.dataset, self.more = dataset, more

    @property
    def identifiers(self) -> Sequence[str]:
        """Return the names of the cases."""
        return self.dataset.identifiers

    @property
    def source_folder(self) -> str:
        """Return the dataset's folder."""
        return self.dataset.source_folder

    def load_case(self, case: str) -> tuple[Any, Any, Any, dict]:
        """Return images with the channels behind them, labels, those of a previous stage, and properties."""
        data, *others = self.dataset.load_case(case)
        return (StackedChannels(data, self.more(case)), *others)
