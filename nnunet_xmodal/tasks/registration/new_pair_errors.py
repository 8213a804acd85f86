"""Errors of a transform on a pair whose alignment, or whose labels, are known: TRE, SRE, Dice."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.volumes import read_volume
from nnunet_xmodal.geometry.affine import applied
from nnunet_xmodal.geometry.grid_chain import physical_matrix
from nnunet_xmodal.geometry.surface import surface_points
from nnunet_xmodal.geometry.volume_grid import to_physical
from nnunet_xmodal.tasks.registration.given_alignment import GivenAlignment, read_alignment
from nnunet_xmodal.tasks.registration.grid import is_organ

ERROR_COLUMNS = ("TRE_before_mm", "TRE_mm", "SRE_before_mm", "SRE_mm", "Dice_before", "Dice")


@dataclass(frozen=True)
class Known:
    """What is known of a pair; None and an empty tuple for what is not.

    Attributes:
        reference: files of its alignment, see `given_alignment`.
        fixed_label, moving_label: of the same organ in either image.
    """

    reference: tuple[Path, ...] = ()
    fixed_label: Path | None = None
    moving_label: Path | None = None


class PairErrors:
    """Errors of transforms fixed → moving point of one pair.

        TRE    mean ‖X p − q‖ over landmarks p of the fixed image and q of the moving one
        SRE    mean ‖X m − X_ref m‖ over the surface of the fixed label, X_ref a transform or the landmarks' rigid fit
        Dice   of the fixed label and the moving one behind X, interpolated linearly, inside from ½

    Raises:
        XModalError: for files that cannot be read, and labels that show no organ.
    """

    def __init__(self, known: Known, dataset_json: dict) -> None:
        self.alignment: GivenAlignment | None = read_alignment(known.reference) if known.reference else None
        self.organs = [
            None if file is None else _organ(file, dataset_json) for file in (known.fixed_label, known.moving_label)
        ]

    def of(self, before: sitk.Transform, after: sitk.Transform) -> dict[str, float]:
        """Return the errors that can be told, of the start and of what was found, by their columns' names."""
        found: dict[str, float] = {}
        fixed, moving = self.organs
        for told, transform in (("_before", before), ("", after)):
            matrix = physical_matrix(transform)
            if self.alignment is not None and len(self.alignment.fixed_points):
                apart = applied(matrix, self.alignment.fixed_points) - self.alignment.moving_points
                found[f"TRE{told}_mm"] = float(np.linalg.norm(apart, axis=1).mean())
            if self.alignment is not None and fixed is not None:
                surface = _surface(fixed)
                apart = applied(matrix, surface) - applied(self.alignment.matrix, surface)
                found[f"SRE{told}_mm"] = float(np.linalg.norm(apart, axis=1).mean())
            if fixed is not None and moving is not None:
                found[f"Dice{told}"] = _dice(fixed, moving, transform)
        return found


def _organ(file: Path, dataset_json: dict) -> sitk.Image:
    """1 in the organ, 0 elsewhere, float32."""
    label = read_volume(file)
    inside = is_organ(sitk.GetArrayViewFromImage(label), dataset_json)
    if not inside.any():
        raise XModalError(f"{file} shows no organ, so nothing can be measured on it: draw it, or take the case out.")
    organ = sitk.GetImageFromArray(inside.astype(np.float32))
    organ.CopyInformation(label)
    return organ


def _surface(organ: sitk.Image) -> np.ndarray:
    """Physical points `(N, 3)` in mm."""
    array = sitk.GetArrayViewFromImage(organ) > 0
    index = surface_points(array, (1.0, 1.0, 1.0)).numpy() + (np.array(organ.GetSize()) - 1) / 2
    return to_physical(organ, index)


def _dice(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    warped = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)) >= 0.5
    inside = sitk.GetArrayViewFromImage(fixed) > 0
    return float(2 * (warped & inside).sum() / (warped.sum() + inside.sum()))
