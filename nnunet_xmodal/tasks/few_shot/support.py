"""The support of few-shot networks, cut from preprocessed cases."""

from collections.abc import Sequence

import numpy as np
import torch
from nnunetv2.evaluation.evaluate_predictions import label_or_region_to_key
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_xmodal.datasets.preprocessed_cases import PreprocessedCases
from nnunet_xmodal.files.labels import foreground, name_of_key
from nnunet_xmodal.networks.prototype_network import PrototypeNetwork
from nnunet_xmodal.tasks.few_shot.episodes import on_patch
from nnunet_xmodal.tasks.few_shot.file_slices import file_slices
from nnunet_xmodal.tasks.few_shot.support_slices import choose_support

Label = tuple[int, ...]
"""The values that make up a label or a region."""


def labels_to_segment(label_manager: LabelManager) -> dict[str, Label]:
    """Return key in a `summary.json` → values, in the order of the network's outputs, without background."""
    if label_manager.has_regions:
        chosen = label_manager.foreground_regions
    else:
        chosen = label_manager.foreground_labels
    return {label_or_region_to_key(one): tuple(one) if isinstance(one, tuple | list) else (one,) for one in chosen}


def fill_support(
    network: PrototypeNetwork,
    dataset: PreprocessedCases,
    label_manager: LabelManager,
    transpose_forward: Sequence[int] = (0, 1, 2),
) -> list[str]:
    """Give every label of the network slices of the dataset's cases, see `choose_support`.

    Args:
        dataset: of nnU-Net or like it, with `identifiers` and `load_case`; its label maps are read.
        transpose_forward: of the plans.

    Returns:
        A line per label: where its support comes from, or that no case shows it. Slices are those of the files.
    """
    labels = labels_to_segment(label_manager)
    chosen = choose_support(dataset, dataset.identifiers, labels, network.chunks, network.shots)
    network.clear_support()
    names = foreground({"labels": label_manager.label_dict})
    lines = []
    for number, (key, chunks) in enumerate(chosen.items()):
        places = []
        for chunk, slices in chunks.items():
            for shot, (case, index) in enumerate(slices):
                image, mask, position = _support_slice(dataset, case, index, labels[key], network.size)
                if mask.any():  # a patch smaller than the image may cut off what the slice shows
                    network.set_support(number, chunk, shot, image, mask, position)
                    places.append(f"{case} {_named(dataset, case, index, transpose_forward)}")
        shown = ", ".join(places) or "no case shows it, it will not be predicted"
        lines.append(f"label {name_of_key(key, names)}: {shown}")
    return lines


def _named(dataset: PreprocessedCases, case: str, index: int, transpose_forward: Sequence[int]) -> str:
    data, _, _, properties = dataset.load_case(case)
    return file_slices(properties, transpose_forward, data.shape[1]).named(index)


def cases_of_support(dataset: PreprocessedCases, label_manager: LabelManager, chunks: int, shots: int) -> set[str]:
    """Return the cases that `fill_support` would take slices of."""
    chosen = choose_support(dataset, dataset.identifiers, labels_to_segment(label_manager), chunks, shots)
    return {case for support in chosen.values() for slices in support.values() for case, _ in slices}


def _support_slice(
    dataset: PreprocessedCases, case: str, index: int, values: Label, size: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Image `(C, H, W)`, mask `(H, W)` and where between the first (0) and the last slice (1) of its scan it lies."""
    data, segmentation, *_ = dataset.load_case(case)
    image = on_patch(np.asarray(data[:, index], np.float32), size)
    mask = on_patch(np.isin(np.asarray(segmentation[0, index]), values).astype(np.uint8), size)
    return torch.from_numpy(image), torch.from_numpy(mask), relative_position(index, data.shape[1])


def relative_position(index: int, slices: int) -> float:
    """Return the position of a slice in its scan, 0 for the first and 1 for the last one."""
    return index / max(1, slices - 1)
