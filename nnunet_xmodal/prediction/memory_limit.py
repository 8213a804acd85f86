"""How much memory a prediction may take: `--max_memory`.

One process then does everything, one case after the other, and sums of tiles go to the disk where they do not fit. What
nnU-Net needs to read, preprocess and export a case stays, see `case_memory`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Protocol

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction.case_memory import CaseMemory
from nnunet_xmodal.prediction.segmentation_of_logits import can_go_by_class

_BESIDE = 1.0  # GB: Python, torch, the network of a usual plan and what it makes of a tile
_GB = 1e9
_LESS = "; --save_probabilities and --uncertainty keep all classes in the memory"


class ReadCase(Protocol):
    """A case as predictors know it."""

    @property
    def name(self) -> str:
        """Return the name that its files begin with."""

    @property
    def images(self) -> list[Path]:
        """Return a file per channel."""


@dataclass(frozen=True)
class MemoryLimit:
    """A limit, and the folder on whose disk results lie beyond it.

    Attributes:
        gigabytes: of 10⁹ bytes.
    """

    gigabytes: float
    folder: Path

    def holds(self, data: torch.Tensor, heads: int, folds: int, probabilities: bool = False) -> bool:
        """Return whether the results of a case fit into the memory beside its preprocessed data.

        Where nnU-Net looks for infinite logits, it holds their magnitudes and a mask beside them: five bytes for each,
        two for the sum of weights, and one for the case's mask. The sum over folds takes two more.

        Args:
            data: `(C, *spatial)`.
            probabilities: are summed beside them, two sums of four bytes at a time.
        """
        voxels = data[0].numel()
        results = voxels * (heads * (5 if folds == 1 else 7) + 3 + 8 * heads * probabilities)
        return _BESIDE + (data.numel() * data.element_size() + results) / _GB <= self.gigabytes

    def check(
        self,
        cases: Iterable[ReadCase],
        predictor: nnUNetPredictor,
        all_classes: bool = False,
        probabilities: bool = False,
    ) -> None:
        """Check that every case can be read, preprocessed and exported within the limit, by the headers of its images.

        Args:
            predictor: with its model.
            all_classes: are resampled at once, for a file of their probabilities.
            probabilities: are summed beside the logits, in the memory.

        Raises:
            XModalError: names the largest case and what it needs.
        """
        manager, plans, configuration = (
            predictor.label_manager,
            predictor.plans_manager,
            predictor.configuration_manager,
        )
        heads = manager.num_segmentation_heads
        one_hot = 0 if configuration.previous_stage_name is None else len(manager.foreground_labels)

        def gigabytes(case: ReadCase) -> float:
            memory = CaseMemory.of_files(case.images, plans, configuration, one_hot)
            if memory is None:
                return 0.0
            at_once = heads if all_classes or not can_go_by_class(manager) else 1
            sums = memory.to_sum(heads) if probabilities else 0
            return _BESIDE + max(memory.to_prepare(), memory.to_export(at_once), sums) / _GB

        needed = {case.name: gigabytes(case) for case in cases}
        if not needed:
            return
        largest = max(needed, key=lambda name: needed[name])
        if needed[largest] > self.gigabytes:
            enough = ceil(10 * needed[largest]) / 10
            raise XModalError(
                f"--max_memory {self.gigabytes:g}: {largest} takes about {enough:.1f} GB: give {enough:.1f} or more, or"
                f" a smaller image (--roi crops to an organ){_LESS if all_classes or probabilities else ''}."
            )
