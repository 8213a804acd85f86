"""Checks of masks that are empty or on another grid, and of maps in other units, before they do harm."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunet_xmodal.errors import XModalError, first_of
from nnunet_xmodal.files.images import read_image, same_geometry, shown_geometry
from nnunet_xmodal.files.soft_masks import inside_mask

LARGEST_SUSCEPTIBILITY = 10.0
"""ppm, of the 99th percentile of |χ| inside the mask: tissue is within ±0.3, blood and calcium within a few."""
LARGEST_FIELD = 5.0
"""ppm, likewise, of a local field."""

_SHARE = 99.0  # percentile


def check_mask(mask: Path, image: Path, dataset_json: dict) -> None:
    """Check that a mask lies on the grid of its image and is not empty.

    Args:
        mask: file whose voxels from 0.5 on are inside.
        image: file on whose grid it must lie.
        dataset_json: names nnU-Net's reader.

    Raises:
        XModalError: for a mask that is missing, unreadable, on another grid, or empty.
    """
    if not mask.is_file():
        raise XModalError(f"{mask} is missing: every case needs a mask, or leave --mask out.")
    array, geometry = read_image(mask, dataset_json, is_label=True)
    _, reference = read_image(image, dataset_json, is_label=False)
    for name, value in geometry.items():
        if reference.get(name) is not None and not same_geometry(reference[name], value):
            raise XModalError(
                f"{mask} has the {name} {shown_geometry(value)} but {image} has {shown_geometry(reference[name])}: "
                "resample the mask onto the image's grid."
            )
    check_not_empty(array, mask)


def check_not_empty(mask: np.ndarray, file: Path | str) -> None:
    """Check that a mask has a voxel inside.

    Raises:
        XModalError: if nothing is inside.
    """
    if not inside_mask(mask).any():
        soft = f" (its largest value is {np.max(mask):.3g}, and 0.5 is inside)" if np.any(mask > 0) else ""
        raise XModalError(f"the mask {file} is empty{soft}: draw the brain in it, or leave the case out.")


def check_susceptibility(target: np.ndarray, mask: np.ndarray, case: str) -> None:
    """Check that a map is in ppm.

    Args:
        target, mask: `(z, y, x)`, the mask bool.

    Raises:
        XModalError: for a map that is far beyond what ppm of any tissue are.
    """
    value = largest_usual(target, mask)
    if value > LARGEST_SUSCEPTIBILITY:
        raise XModalError(
            f"the susceptibilities of {case} reach {value:.4g} inside the mask, which looks like ppb, not ppm: divide "
            "the target by 1000 in nnUNet_raw and preprocess again."
        )


def check_field(field: np.ndarray, mask: np.ndarray, case: str, one_ppm: float, unit: str) -> None:
    """Check that a field is a local one in the unit that is named.

    Args:
        field, mask: `(z, y, x)`, the mask bool.
        one_ppm: in the field's unit.

    Raises:
        XModalError: for a field that is far beyond what ppm of a local field are.
    """
    value = largest_usual(field, mask) / one_ppm
    if value > LARGEST_FIELD:
        raise XModalError(
            f"the field of {case}, read as {unit}, reaches {value:.4g} ppm inside the mask, more than any local field "
            "does: say its unit with --field_unit, --B0 and --TE, and remove the background field beforehand."
        )


def largest_usual(volume: np.ndarray, mask: np.ndarray) -> float:
    """Return the 99th percentile of absolute values inside a mask; 0 for an empty one."""
    return float(np.percentile(np.abs(volume[mask]), _SHARE)) if mask.any() else 0.0


def first_fault(checks: Sequence) -> str | None:
    """Run every `() → None` and return the first error's sentence, with the number of others; None without any."""
    faults = []
    for check in checks:
        try:
            check()
        except XModalError as error:  # the others are looked at as well
            faults.append(str(error))
    return first_of(faults) if faults else None
