"""Preprocessed cases that tell of absent channels in their voxels, for what hands on nothing but these."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from nnunet_xmodal.datasets.preprocessed_cases import CasesOnDisk
from nnunet_xmodal.datasets.presence import MISSING


class AbsenceMarked:
    """A dataset of nnU-Net whose absent channels are NaN in the place of 0.

    nnU-Net's validation passes voxels from dataset to network and nothing else. A network that tells absence by NaN
    cannot mistake a channel that happens to be 0 for an absent one, and one that reads an absent channel shows it.

    Args:
        dataset: of nnU-Net.
    """

    def __init__(self, dataset: CasesOnDisk) -> None:
        self.dataset = dataset

    @property
    def identifiers(self) -> Sequence[str]:
        """Return the names of the cases."""
        return self.dataset.identifiers

    @property
    def source_folder(self) -> str:
        """Return the dataset's folder."""
        return self.dataset.source_folder

    def load_case(self, case: str) -> tuple[Any, Any, Any, dict]:
        """Load a case as nnU-Net's dataset does; one that lacks channels is in memory."""
        data, *others, properties = self.dataset.load_case(case)
        missing = list(properties.get(MISSING, ()))
        if missing:
            data = np.array(data[:])
            data[missing] = np.nan
        return (data, *others, properties)


class AbsenceMarkedClass:
    """What stands for nnU-Net's class of datasets where absence is marked: its calls, and what fold `all` asks it.

    Args:
        dataset_class: nnU-Net's.
    """

    def __init__(self, dataset_class: type[nnUNetBaseDataset]) -> None:
        self.dataset_class = dataset_class

    def __call__(self, *args: Any, **kwargs: Any) -> AbsenceMarked:
        """Return a dataset of the class, marked."""
        return AbsenceMarked(self.dataset_class(*args, **kwargs))

    def get_identifiers(self, folder: str) -> list[str]:
        """Return the names of all cases in a folder."""
        return self.dataset_class.get_identifiers(folder)
