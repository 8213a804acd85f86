"""Values of label maps, and what dataset.json calls them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.datasets.cases import label_values
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files import dataset_labels
from nnunet_xmodal.files.whole_labels import rounded_labels

Labels = dict[str, int | list[int]]
"""As in dataset.json: a name → a value, or the values of a region."""


def parse_map(words: Sequence[str]) -> dict[int, int]:
    """Parse pairs of values: `["1:2", "2:1", "-1:0"]` → `{1: 2, 2: 1, -1: 0}`.

    Raises:
        XModalError: for a word that is no pair of whole numbers, and a value that is mapped twice.
    """
    mapped: dict[int, int] = {}
    for word in words:
        old, _, new = word.partition(":")
        old, new = old.strip(), new.strip()
        if not old.removeprefix("-").isdecimal() or not new.isdecimal():
            raise XModalError(f"--map takes pairs such as 4:3 (old value, new value), got {word}.")
        if int(old) in mapped:
            raise XModalError(f"--map names the value {old} twice: give it one new value.")
        mapped[int(old)] = int(new)
    return mapped


def parse_labels(words: Sequence[str]) -> Labels:
    """Parse labels into what dataset.json has; background is added.

    `["background=0", "whole_tumour=1,2,3", "enhancing=3"]` → `{"background": 0, "whole_tumour": [1, 2, 3], …}`.

    Raises:
        XModalError: for a word that is no name with a value or several, and a name or a single value that comes twice.
    """
    labels: Labels = {"background": 0}
    for word in words:
        name, _, values = word.partition("=")
        numbers = values.split(",")
        if not name or not all(number.isdecimal() for number in numbers):
            raise XModalError(f"--labels takes a name with its value, or with those of a region (a=1,2), got {word}.")
        if name in labels and name != "background":
            raise XModalError(f"--labels names {name} twice: give it one value, or a region's values as {name}=1,2.")
        labels[name] = int(values) if len(numbers) == 1 else [int(number) for number in numbers]
    if labels["background"] != 0:
        raise XModalError("the background has the value 0 in nnU-Net: leave it out of --labels.")
    check_labels(labels)
    return labels


def check_labels(labels: Labels) -> None:
    """Check that nnU-Net can train with these labels.

    Raises:
        XModalError: without a foreground, for values that are not 0, 1, 2, … without a gap, an ignore label that is not
            the last of them, and for regions of which one has no value that those behind it leave to it.
    """
    values = sorted(label_values({"labels": labels}))
    if values == [0]:
        raise XModalError("no label but background is named: give for example --labels lesion=1.")
    if values != list(range(len(values))):
        missing = next(value for value in range(len(values)) if value not in values)
        raise XModalError(
            f"the labels have the values {', '.join(map(str, values))}, and nnU-Net wants them without a gap: map one "
            f"to {missing}, for example --map {values[-1]}:{missing}."
        )
    if "ignore" in labels and labels["ignore"] != values[-1]:
        raise XModalError(
            f"the label ignore has the value {labels['ignore']}, and nnU-Net wants it last: {values[-1]}."
        )
    single = [value for name, value in labels.items() if isinstance(value, int)]
    if not dataset_labels.has_regions(labels) and len(set(single)) < len(single):
        raise XModalError("two labels have one value: give each its own, or write a region as name=1,2.")
    dataset_labels.check_labels(labels, regions_class_order(labels), "--labels")  # as planning will


def regions_class_order(labels: Labels) -> list[int] | None:
    """Return the value that nnU-Net writes for each region, in the order of the labels, where no later one holds.

    Returns:
        None where there are no regions.

    Raises:
        XModalError: for a region that has no value of its own: the larger ones have to come first.
    """
    if not dataset_labels.has_regions(labels):
        return None
    order = []
    for name, value in dataset_labels.own_values(dataset_labels.regions_of(labels)).items():
        if value is None:
            raise XModalError(
                f"all values of the region {name} belong to later regions as well: name larger regions first."
            )
        order.append(value)
    return order


def values_of(name: str, labels: Labels) -> list[int] | None:
    """Return the values of a label or region by its name, or of a value as a word; None for what is neither."""
    if name in labels:
        value = labels[name]
        return [value] if isinstance(value, int) else list(value)
    known = label_values({"labels": labels}) - {0}
    return [int(name)] if name.isdecimal() and int(name) in known else None


def mapped(image: sitk.Image, file: Path, new_values: Mapping[int, int], labels: Labels) -> sitk.Image:
    """Return a label map with its new values, of which all change at once; others stay.

    Returns:
        uint8, or uint16 for values beyond 255.

    Raises:
        XModalError: for values that are not whole numbers from 0, or that no label has.
    """
    voxels = rounded_labels(sitk.GetArrayFromImage(image))
    if voxels.dtype.kind == "f" and (voxels != np.round(voxels)).any():
        fraction = voxels[voxels != np.round(voxels)].flat[0]
        raise XModalError(f"{file} holds {fraction:.9g}, which is no label: give a map of whole numbers.")
    known = label_values({"labels": labels})
    result = np.zeros(voxels.shape, np.uint8 if max(known) < 256 else np.uint16)
    for value in np.unique(voxels).tolist():
        value = int(value)
        new = new_values.get(value, value)
        if new not in known:
            raise XModalError(
                f"{file} holds the label {value}"
                + (f", mapped to {new}" if new != value else "")
                + f", which none of {', '.join(labels)} has: name it in --labels, or give --map {value}:0."
            )
        result[voxels == value] = new
    changed = sitk.GetImageFromArray(result)
    changed.CopyInformation(image)
    return changed


def volume_mm3(labels: sitk.Image) -> float:
    """Return the volume of everything but background, in mm³."""
    return float((sitk.GetArrayViewFromImage(labels) != 0).sum() * np.prod(labels.GetSpacing()))
