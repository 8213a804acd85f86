"""Inversions of a preprocessed dataset's fields on disk: made once, read patch by patch.

    nnUNet_preprocessed/DATASET/<data_identifier>_inversions/<case>.<hash>.npy

The hash is one of the preprocessed file, the geometry and the parameters, so that another of these makes another file.
The folder stands beside nnU-Net's own, which takes no foreign file, and may be removed when no training runs.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from nnunet_xmodal.datasets.preprocessed_cases import CasesOnDisk
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.physics.field_inputs import FieldInputs
from nnunet_xmodal.physics.measured_field import FieldGeometry

_VERSION = 1  # of the algorithms: whoever changes what they return counts it up


class InversionFiles:
    """Where the inversions of cases lie, and how they are made.

    Args:
        settings: of the inversions.
        one_ppm: in the unit of the preprocessed fields.
        magnitude: which channel is the magnitude, None without one.
        device: to compute on.
    """

    def __init__(
        self, settings: FieldInputs, one_ppm: float, magnitude: int | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.settings, self.one_ppm, self.magnitude, self.device = settings, one_ppm, magnitude, device
        self.files: dict[str, Path] = {}

    def __getitem__(self, case: str) -> np.ndarray:
        """Return the inversions of a case, float32 `(channels, *spatial)`, opened for reading."""
        return np.load(self.files[case], mmap_mode="r")

    def find(self, dataset: CasesOnDisk, geometries: Mapping[str, FieldGeometry]) -> None:
        """Note which file every case has; nothing is computed."""
        folder = Path(dataset.source_folder)
        folder = folder.with_name(f"{folder.name}_inversions")
        for case in dataset.identifiers:
            settings = [self.settings.alphas, self.settings.iterations]
            made_from = [_VERSION, settings, self.one_ppm, self.magnitude, *geometries[case]]
            name = hashlib.sha256(json.dumps(made_from).encode())
            name.update(_content(Path(dataset.source_folder), case))
            self.files[case] = folder / f"{case}.{name.hexdigest()[:16]}.npy"

    def make(
        self,
        dataset: CasesOnDisk,
        cases: Sequence[str],
        geometries: Mapping[str, FieldGeometry],
        log: Callable[[str], None] = print,
    ) -> None:
        """Compute what is missing or cut off of the given cases; a case is written as soon as it is finished.

        Raises:
            XModalError: for a file that cannot be written, and a field with NaN or infinite voxels.
        """
        missing = [case for case in cases if not _is_whole(self.files[case])]
        if missing:
            log(f"Inverting the fields of {len(missing)} cases")
        for case in missing:
            data = np.asarray(dataset.load_case(case)[0][:], np.float32)
            if not np.isfinite(data[0]).all():
                raise XModalError(
                    f"the field of the preprocessed case {case} holds NaN or infinite voxels: replace them, for "
                    "example by zero, and preprocess again."
                )
            magnitude = None if self.magnitude is None else data[self.magnitude]
            made = self.settings.of_field(data[0] / self.one_ppm, geometries[case], magnitude, self.device)
            self.files[case].parent.mkdir(exist_ok=True)
            write_atomically(self.files[case], partial(_save, made))


def _content(folder: Path, case: str) -> bytes:
    """What tells a preprocessed file from another one: a checksum, as times do not survive a copy to another disk."""
    for ending in ("b2nd", "npz"):
        file = folder / f"{case}.{ending}"
        if file.is_file():
            return hashlib.sha256(file.read_bytes()).digest()
    return b""


def _save(volumes: np.ndarray, name: str) -> None:
    np.save(name, volumes)


def _is_whole(file: Path) -> bool:
    try:
        np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # not there, or cut off
        return False
    return True
