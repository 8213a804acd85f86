"""A registration of two images from a start: what all methods have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from time import perf_counter
from typing import TypeAlias

import numpy as np
import torch

from nnunet_xmodal.tasks.registration.registered import Registered
from nnunet_xmodal.tasks.registration.start_check import check_overlap

Volume: TypeAlias = torch.Tensor | np.ndarray
"""`(D, H, W)`; a moving one reaches beyond the fixed one's grid, around the same centre."""


class RegistrationMethod(ABC):
    """A method that finds one matrix, from one start; see the package for the interface.

    Attributes:
        fixed_is_label: whether it wants the organ's label in the place of the fixed image.
    """

    fixed_is_label: bool = False

    def __call__(self, fixed: Volume, moving: Volume, spacing: Sequence[float], base: Volume) -> Registered:
        """Register two images from one start, and take the time.

        Raises:
            XModalError: for images that do not overlap at the start.
        """
        began = perf_counter()
        base = torch.as_tensor(base, dtype=torch.float64).cpu()
        check_overlap(fixed.shape, moving.shape, spacing, base)
        return Registered(self.find(fixed, moving, spacing, base), perf_counter() - began)

    @abstractmethod
    def find(self, fixed: Volume, moving: Volume, spacing: Sequence[float], base: torch.Tensor) -> torch.Tensor:
        """Return moving → fixed, `(4, 4)` float64 on the CPU; `base` is that, too, and the images overlap there."""

    def of_starts(
        self, fixed: Volume, moving: Volume, spacing: Sequence[float], bases: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Register two images from several starts.

        Args:
            bases: `(K, 4, 4)`.

        Returns:
            `(K, 4, 4)` float64 on the CPU, and seconds of each, `(K)`.
        """
        found = [self(fixed, moving, spacing, base) for base in bases]
        matrices, seconds = zip(*found)
        return torch.stack(matrices), torch.tensor(seconds, dtype=torch.float64)
