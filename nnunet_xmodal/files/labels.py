"""Labels and regions of a dataset by name, as summaries and label maps know them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from nnunet_xmodal.files.dataset_labels import IGNORE, values_of

if TYPE_CHECKING:  # torch is not imported for a type
    import numpy as np
    import torch

LabelMap = TypeVar("LabelMap", "np.ndarray", "torch.Tensor")


def foreground(dataset_json: Mapping) -> dict[str, tuple[int, ...]]:
    """Return name → values in a label map, without background and ignore label, in the order of dataset.json."""
    labels = dataset_json["labels"]
    values = {name: values_of(labels, name) for name in labels if name != IGNORE}
    return {name: value for name, value in values.items() if value != (0,)}


def ignore_label(dataset_json: Mapping) -> int | None:
    """Return the value of the label called "ignore", None without one."""
    value = dataset_json["labels"].get("ignore")
    return None if value is None else int(value)


def inside(labels: LabelMap, ignore: int | None) -> LabelMap:
    """Return bool of a label map's shape, True for foreground; nnU-Net's −1 for outside of its crop is none.

    Args:
        labels: array or tensor.
        ignore: value of the ignore label, None without one.
    """
    foreground = labels > 0
    return foreground if ignore is None else foreground & (labels != ignore)


def organ_values(dataset_json: Mapping) -> list[int]:
    """Return the values of the one organ that all labels together are, sorted."""
    return sorted({value for label in foreground(dataset_json).values() for value in label})


def whole_image_key(dataset_json: Mapping) -> str:
    """Return the key in a `summary.json` of results about whole images: the region of all values, with background."""
    return str((0, *organ_values(dataset_json)))


def organ_key(dataset_json: Mapping) -> str:
    """Return the key in a `summary.json` of the one organ that all labels together are: its number, or all numbers."""
    values = organ_values(dataset_json)
    return str(values[0]) if len(values) == 1 else str(tuple(values))


def name_of_key(key: str, labels: Mapping[str, tuple[int, ...]]) -> str:
    """Return the name of a label in a `summary.json`, `"2"` or `"(1, 2, 3)"`; the key itself if it has no name.

    A region that holds the background is called "image".
    """
    values = tuple(sorted(int(word) for word in key.strip("()").split(",") if word.strip().isdecimal()))
    if len(values) > 1 and 0 in values:
        return "image"
    return next((name for name, value in labels.items() if tuple(sorted(value)) == values), key)
