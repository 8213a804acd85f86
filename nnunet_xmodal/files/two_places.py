"""Files that ITK and nibabel put at two places: sform and qform differ, or the header has neither.

nnU-Net reads `.nii.gz` with ITK and `.nii` with nibabel, 3D Slicer is ITK, FSL and most scripts go by nibabel's rules.
As long as all files of a case are moved alike, whoever reads them finds one on the other; else an image or a label lies
beside the rest for one of the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.nifti import (
    are_apart,
    has_form,
    is_nifti,
    itk_affine,
    nibabel_affine,
    nifti_header,
    nifti_image,
)
from nnunet_xmodal.files.placement import largest_distance

_HARMLESS = 0.5
"""Of the smallest voxel's side: what is moved less still lies in the same voxels."""


@dataclass(frozen=True)
class TwoPlaces:
    """Two places of one file, each according to another program.

    Attributes:
        itk, nibabel: `(4, 4)`, index x, y, z → LPS mm.
        size: voxels along x, y, z.
        has_none: whether the header has neither sform nor qform, so that each program has a place of its own for it.
    """

    file: Path
    itk: np.ndarray
    nibabel: np.ndarray
    size: tuple[int, ...]
    has_none: bool = False

    @property
    def shift(self) -> np.ndarray:
        """Return `(4, 4)`: ITK's point → nibabel's, in mm."""
        return self.nibabel @ np.linalg.inv(self.itk)

    def described(self) -> str:
        """Return a clause with both places, of which the first is ITK's."""
        first, second = (np.round(affine[:3, 3], 2).tolist() for affine in (self.itk, self.nibabel))
        distance = largest_distance(self.itk, self.nibabel, self.size)
        why = "it has neither sform nor qform" if self.has_none else "its sform and qform differ"
        return (
            f"{why}, so the first voxel is at {first} mm for ITK (nnU-Net's reader of .nii.gz, 3D Slicer) and at "
            f"{second} mm (LPS) for nibabel, up to {distance:.3g} mm apart"
        )


def two_places(file: Path) -> TwoPlaces | None:
    """Return both places of a volume, None where there is but one, or none for ITK."""
    if not is_nifti(file):
        return None
    image = nifti_image(file)
    try:
        header = nifti_header(file, image)
    except XModalError:  # such as NIfTI-2, which nnU-Net may read with nibabel
        return None
    size = header.size
    if len(size) < 3:
        return None
    itk, nibabel = itk_affine(header), nibabel_affine(image)
    if not are_apart(itk, nibabel, size):
        return None
    return TwoPlaces(file, itk, nibabel, size, not has_form(image))


def check_moved_alike(files: Sequence[Path]) -> dict[Path, TwoPlaces]:
    """Check that two programs move all files of one case alike.

    Args:
        files: the first of which the others belong to.

    Returns:
        Those that lie at two places, all moved alike.

    Raises:
        XModalError: where one program finds two of the files elsewhere to each other than the other program does.
    """
    found = {file: two_places(file) for file in files}
    at_two = {file: places for file, places in found.items() if places is not None}
    if not at_two:
        return {}
    still = next((file for file, places in found.items() if places is None), None)
    reference = next(iter(at_two.values()))
    for file, places in found.items():
        other = np.eye(4) if places is None else places.shift
        # points of the reference, moved by its own and by the other's way
        moved_by_own, moved_by_other = reference.shift @ reference.itk, other @ reference.itk
        side = np.linalg.norm(reference.itk[:3, :3], axis=0).min()
        if largest_distance(moved_by_own, moved_by_other, reference.size) > _HARMLESS * side:
            beside = still if still is not None else file
            raise XModalError(
                f"ITK and nibabel put {reference.file} at two places, and {beside.name} not along with it: "
                f"{reference.described()}; write the right one into both, for example with nibabel by "
                "image.set_qform(image.affine, 1) and image.set_sform(image.affine, 1)."
            )
    return at_two
