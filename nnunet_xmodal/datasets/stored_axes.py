"""The axes of the patient along which the images of a dataset are stored, read from their headers alone.

nnU-Net goes by the order of voxels: of a scan that is stored from the feet to the head among others stored from the
head to the feet it learns, and sees, a patient upside down.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.remarks import remark
from nnunet_xmodal.geometry.orientation import CODES, code_of

_NAMED = 3  # cases in a remark
_LOOKED_AT = 50  # files by which a trained model is judged
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def stored_axes(file: Path, reader: str | None = None) -> str | None:
    """Return the code of a volume's axes, see `geometry.orientation`.

    Args:
        reader: class of nnU-Net's that reads the dataset; the headers of NIfTI may hold two places, and readers choose.

    Returns:
        None for what is no volume or has no place in space, for a damaged header, and where the reader turns by itself.
    """
    reader = reader or "SimpleITKIO"
    if reader.endswith("WithReorient"):
        return None
    try:
        if reader.startswith("Nibabel"):
            return "".join(nibabel.aff2axcodes(nibabel.load(file).affine))
        header = sitk.ImageFileReader()
        header.SetFileName(str(file))
        header.ReadImageInformation()
        direction = header.GetDirection()
        return code_of(direction) if len(direction) == 9 and header.GetSize()[2] > 1 else None
    except Exception:  # said by whoever reads the voxels
        return None


def place_of(properties: dict) -> dict | None:
    """Return spacing, origin and direction of a volume, x first, in ITK's convention; None where nothing is known."""
    if "nibabel_stuff" in properties:
        affine = _RAS_TO_LPS @ np.asarray(properties["nibabel_stuff"]["original_affine"], float)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        return {
            "spacing": spacing.tolist(),
            "origin": affine[:3, 3].tolist(),
            "direction": (affine[:3, :3] / spacing).ravel().tolist(),
        }
    place = properties.get("sitk_stuff")
    if place is None or len(place.get("direction", ())) != 9:
        return None
    return {key: place[key] for key in ("spacing", "origin", "direction")}


def axes_noted(properties: dict) -> str | None:
    """Return the code of a case from what nnU-Net's reader has noted about it; None where it noted nothing."""
    if turns_by_itself(properties):
        return None
    place = place_of(properties)
    return None if place is None else code_of(place["direction"])


def turns_by_itself(properties: dict) -> bool:
    """Return whether the case was read by a reader of nnU-Net's that turns to RAS."""
    return "original_orientation" in properties.get("sitk_stuff", {}) or "reoriented_affine" in properties.get(
        "nibabel_stuff", {}
    )


def axes_of_cases(images: Mapping[str, Path], reader: str | None = None) -> dict[str, str]:
    """Return case → code of its first image, without the cases that have none."""
    found = {case: stored_axes(file, reader) for case, file in images.items()}
    return {case: code for case, code in found.items() if code is not None}


def most_common(axes: Mapping[str, str]) -> str | None:
    """Return the code of most cases, of two that are as common that of the first case; None without any."""
    return Counter(axes.values()).most_common(1)[0][0] if axes else None


def recorded_axes(dataset_json: Mapping) -> str | None:
    """Return what `nnUNetXModal_prepare --orientation` has turned a dataset to; None where it was not turned.

    Raises:
        XModalError: for an entry that is no orientation.
    """
    entry = dataset_json.get("xmodal", {})
    code = entry.get("orientation") if isinstance(entry, Mapping) else None
    if code is not None and code not in CODES:
        raise XModalError(f'"orientation" of dataset.json is {code!r}: write three letters such as "LPS".')
    return code


def axes_of_model(folder: Path, plans: Mapping, dataset_json: Mapping) -> str | None:
    """Return along which axes a model was trained.

    As dataset.json or the plans record it, else as most of the model's validation predictions are stored, which lie
    like the cases that they are of.
    """
    recorded = recorded_axes(dataset_json) or plans.get("xmodal", {}).get("stored_axes")
    if recorded is not None or str(plans.get("image_reader_writer")).endswith("WithReorient"):
        return recorded
    files = sorted(folder.glob(f"fold_*/validation/*{dataset_json['file_ending']}"))[:_LOOKED_AT]
    return most_common(axes_of_cases({str(file): file for file in files}, plans.get("image_reader_writer")))


def tell_of_other_axes(axes: Mapping[str, str], way_out: str, usual: str | None = None) -> None:
    """Remark on cases that are stored along other axes than the rest, or than those that a model was trained on.

    Args:
        axes: case → code.
        way_out: what to do, from "nnUNetXModal_prepare" on.
        usual: of the training; None compares the cases with each other.
    """
    rest = f"the training cases ({usual})" if usual else f"the rest ({most_common(axes)})"
    usual = usual or most_common(axes)
    others = {case: code for case, code in axes.items() if code != usual}
    if not others:
        return
    named = ", ".join(f"{case} ({code})" for case, code in list(others.items())[:_NAMED])
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    are = "are" if len(others) > 1 else "is"
    remark(
        f"{named}{more} {are} stored along other axes than {rest}: nnU-Net ignores headers and takes images as they "
        f"are stored; {way_out}."
    )
