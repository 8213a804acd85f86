"""Batches of aligned cases for registration: perturbed from random starts in training, from fixed ones in validation.

nnU-Net's loader draws random patches; here every sample holds the whole organ.
"""

from collections.abc import Sequence

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import DataLoader

from nnunet_xmodal.geometry.surface import padded
from nnunet_xmodal.tasks.registration.perturbations import SRE, fixed_perturbations
from nnunet_xmodal.tasks.registration.training_cases import CaseOnGrid, RegistrationCases


class RegistrationLoader(DataLoader):
    """Batches of random cases, their grids shifted at random; the trainer perturbs them on its device.

    Args:
        jitter: mm, by which the grid's centre is shifted at most along each axis, uniformly.

    A batch holds

        data      float32 (B, 1, D, H, W), the fixed images
        moving    float32 (B, 1, D', H', W'), aligned, with the surroundings of the grid
        label     float32 (B, 1, D, H, W), 1 inside of the organ
        points    float32 (B, N, 3), its surface in mm from the grid's centre, padded
        exists    bool (B, N), which of these are points
        spacing   float32 (B, 3), effective, mm along D, H, W
        keys      names of the cases
    """

    def __init__(self, cases: RegistrationCases, batch_size: int, jitter: float = 10.0) -> None:
        super().__init__(cases, batch_size, infinite=True)
        self.indices = cases.identifiers
        self.jitter = jitter

    def generate_train_batch(self) -> dict:
        """Draw a batch, see the class."""
        keys = self.get_indices()
        shifts = np.random.uniform(-self.jitter, self.jitter, (len(keys), 3))
        return batch_of([self._data.cut(key, shift) for key, shift in zip(keys, shifts)], keys)


class FixedStartsLoader:
    """Batches of every case from each of its fixed starts, again and again in the same order, without a shift.

    The first starts of all cases come before the second ones: a round that is cut short still has seen every case.
    Batches have a further entry, "perturbation", float32 `(B, 6)` in mm and degrees.

    Args:
        sre: range of the starts in mm.
        starts: per case.
        about_corner: see `turning_point`.
    """

    def __init__(
        self, cases: RegistrationCases, batch_size: int, sre: SRE, starts: int = 5, about_corner: bool = False
    ) -> None:
        cut = {case: cases.cut(case) for case in cases.identifiers}
        points = {case: on_grid.points - on_grid.turning_point(about_corner) for case, on_grid in cut.items()}
        drawn = {case: fixed_perturbations(case, points[case], sre, starts) for case in cut}
        samples = [(case, drawn[case][start]) for start in range(starts) for case in cut]
        self._cases = cut
        self._batches = [samples[first : first + batch_size] for first in range(0, len(samples), batch_size)]
        self._position = 0

    def __len__(self) -> int:
        """Return the number of batches of a round; the last one may be smaller."""
        return len(self._batches)

    def __iter__(self) -> "FixedStartsLoader":
        return self

    def restart(self) -> None:
        """Go back to the first batch."""
        self._position = 0

    def __next__(self) -> dict:
        keys, perturbations = zip(*self._batches[self._position])
        self._position = (self._position + 1) % len(self)
        batch = batch_of([self._cases[key] for key in keys], keys)
        return batch | {"perturbation": torch.stack(perturbations).float()}


def batch_of(cases: Sequence[CaseOnGrid], keys: Sequence[str]) -> dict:
    """Make a batch of cases, see RegistrationLoader."""
    points, exists = padded([case.points.float() for case in cases])
    return {
        "data": torch.stack([case.fixed for case in cases]),
        "moving": torch.stack([case.moving for case in cases]),
        "label": torch.stack([case.label for case in cases]),
        "points": points,
        "exists": exists,
        "spacing": torch.stack([case.spacing.float() for case in cases]),
        "keys": [str(key) for key in keys],
    }
