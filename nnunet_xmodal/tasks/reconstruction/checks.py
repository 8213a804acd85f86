"""Checks of masks that are empty or on another grid, and of maps in other units, before they do harm."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from nnunet_xmodal.errors import XModalError, first_of
from nnunet_xmodal.files.images import read_image, same_geometry, shown_geometry
from nnunet_xmodal.files.remarks import remark
from nnunet_xmodal.files.soft_masks import inside_mask
from nnunet_xmodal.physics.dipole import forward
from nnunet_xmodal.physics.measured_field import FieldGeometry, angle_to_nearest

LARGEST_SUSCEPTIBILITY = 10.0
"""ppm, of the 99th percentile of |χ| inside the mask: tissue is within ±0.3, blood and calcium within a few."""
LARGEST_FIELD = 1.0
"""ppm, likewise, of a local field: within ±0.1 in a brain, veins and calcium included."""
REFUSED_FROM = 8.0
"""How many times as large or small as the training's deviation a field is taken for one in another unit."""
TOLD_FROM = 2.5
"""How many times as large or small a field gets a remark."""
OF_MAP = 3.0
"""How many times as large or small as the field that its map makes a training's field may be."""
COMPARED_WITH_MAPS = 3
"""Cases of a training whose fields are compared with those of their maps."""
ALIKE, UNLIKE = 0.5, 0.2
"""Correlation of a field with that of its map from which on they are compared, and below which it is told."""
TOLD_ANGLE = 10.0
"""Degrees between a main field and the nearest of the training from which on it is told."""

_SHARE = 99.0  # percentile
_FEW_OUTSIDE = 0.1  # of the mask's voxels: as many may be left around it
_NOISE_OUTSIDE = 3.0  # times the deviation inside, at most, of a field that goes on: an eroded mask is no fault


def check_mask(mask: Path, image: Path, dataset_json: dict, flag: str = "--mask") -> None:
    """Check that a mask lies on the grid of its image and is not empty.

    Args:
        mask: file whose voxels from 0.5 on are inside.
        image: file on whose grid it must lie.
        dataset_json: names nnU-Net's reader.
        flag: that named its folder.

    Raises:
        XModalError: for a mask that is missing, unreadable, on another grid, or empty.
    """
    if not mask.is_file():
        raise XModalError(f"{mask} is missing: every case needs one in the folder of {flag}, or leave that out.")
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


def check_ends_with_mask(field: np.ndarray, mask: np.ndarray, name: str, mask_name: str) -> None:
    """Check that a field does not go on outside of its mask as noise, which the inversion would take for the brain's.

    Raises:
        XModalError: where it varies much more outside than inside.
    """
    outside = field[~mask & (field != 0)]
    if len(outside) < _FEW_OUTSIDE * mask.sum():
        return
    inside, beyond = float(field[mask].std()), float(outside.std())
    if beyond > _NOISE_OUTSIDE * inside:
        raise XModalError(
            f"{name} has a standard deviation of {beyond:.3g} outside of {mask_name} and of {inside:.3g} inside, and "
            "the inversion reads all of it: a local field is 0 outside the brain, so set it to 0 there."
        )


def check_like_training(field: np.ndarray, mask: np.ndarray, case: str, deviation: float | None, unit: str) -> None:
    """Compare a field with those of the training: in Hz, rad and ppb the same field is 4 to 1000 times as large.

    Args:
        field, mask: `(z, y, x)`, the field in ppm, the mask bool.
        deviation: standard deviation of the training's fields inside the masks, in ppm; None where it is not known.
        unit: that the field was read in.

    Raises:
        XModalError: from a factor of REFUSED_FROM on; from TOLD_FROM on there is a remark.
    """
    own = float(np.std(field[mask])) if mask.any() else 0.0
    if not deviation or not own:
        return
    factor = max(own / deviation, deviation / own)
    said = (
        f"the field of {case}, read as {unit}, has a standard deviation of {own:.3g} ppm inside the mask, and those of "
        f"the training have {deviation:.3g}"
    )
    if factor >= REFUSED_FROM:
        raise XModalError(f"{said}: say its unit with --field_unit, --B0 and --TE, or train on such fields.")
    if factor >= TOLD_FROM:
        remark(f"{said}: look whether unit, B0 and TE are its own, and whether the background field is removed.")


def check_field_of_map(
    field: np.ndarray, susceptibility: np.ndarray, mask: np.ndarray, geometry: FieldGeometry, case: str, unit: str
) -> None:
    """Compare a training case's field with the one that its map makes: another unit or sign is told by their ratio.

    Sources outside the map add to the field; they change the fit little, as they have nothing to do with it.

    Args:
        field, susceptibility: `(z, y, x)` in ppm.
        mask: `(z, y, x)` bool, where they are compared.
        geometry: spacing and direction along the axes.
        unit: that the field was read in.

    Raises:
        XModalError: for a field of the opposite sign, and from a factor of OF_MAP on. Where both have nothing to do
            with each other there is a remark.
    """
    chi = torch.from_numpy(np.asarray(susceptibility, np.float32))[None, None]
    made = forward(chi, *geometry)[0, 0].numpy()[mask]
    measured = np.asarray(field, np.float32)[mask]
    if not made.any() or not measured.any():
        return
    made, measured = made - made.mean(), measured - measured.mean()
    product, square = float(made @ measured), float(made @ made)
    correlation = product / (square * float(measured @ measured)) ** 0.5
    said = f"the field of {case}, read as {unit},"
    if correlation <= -ALIKE:
        raise XModalError(
            f"{said} is that of its susceptibility map with the opposite sign (correlation {correlation:.2f}): negate "
            "the fields in nnUNet_raw and preprocess again."
        )
    factor = product / square
    if correlation >= ALIKE and not 1 / OF_MAP < factor < OF_MAP:
        raise XModalError(
            f"{said} is {factor:.3g} times the one that its susceptibility map makes: say its unit with --field_unit, "
            "--B0 and --TE when planning."
        )
    if abs(correlation) < UNLIKE:
        remark(
            f"{said} has little in common with the one that its susceptibility map makes (correlation "
            f"{correlation:.2f}): look whether both are of one head, and where its main field points."
        )


def tell_of_angle(direction: Sequence[float], trained: Sequence[Sequence[float]] | None, case: str) -> None:
    """Tell of a head that lies otherwise to the main field than all of the training.

    Args:
        direction: unit vector of the main field along the axes of the preprocessed array.
        trained: those of the training; None where the model does not know them.
    """
    if not trained:
        return
    angle = angle_to_nearest(direction, trained)
    if angle > TOLD_ANGLE:
        remark(
            f"the main field of {case} is {angle:.0f}° from the nearest one of the training: the model has not learnt "
            "such a position, compare its map with that of total variation, or train on cases that lie so."
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
