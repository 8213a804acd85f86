"""Preprocessed data that a training should not swallow: NaN voxels, labels that dataset.json does not know."""

from collections.abc import Iterable

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_xmodal.datasets.preprocessed_cases import PreprocessedCases
from nnunet_xmodal.errors import XModalError


def check_batch(batch: dict) -> None:
    """Check that a batch holds finite numbers only.

    Args:
        batch: of nnU-Net's loader, before it is transferred: `data` `(B, C, *spatial)` and `keys`, B names of cases.

    Raises:
        XModalError: if a sample holds NaN or infinity; names the case.
    """
    data = batch["data"]
    # one pass over the batch in the usual case: any NaN or infinity makes the sum not finite
    if torch.isfinite(data.sum(dtype=torch.float64)):
        return
    for key, sample in zip(batch["keys"], data):
        if not torch.isfinite(sample).all():
            raise XModalError(
                f"the preprocessed case {key} holds NaN or infinite voxels: correct its images in nnUNet_raw and "
                "preprocess again."
            )


def check_labels(datasets: Iterable[PreprocessedCases], label_manager: LabelManager) -> None:
    """Check the label map of every case; −1, nnU-Net's mark for outside of the cropped image, is allowed.

    Args:
        datasets: of nnU-Net, with `identifiers` and `load_case`; fold `all` has the same cases in two.

    Raises:
        XModalError: names the case and the value.
    """
    known = {-1, 0, *_flat(label_manager.all_labels)}
    if label_manager.ignore_label is not None:
        known.add(label_manager.ignore_label)
    cases = {case: dataset for dataset in datasets for case in dataset.identifiers}
    for case, dataset in cases.items():
        _, segmentation, _, _ = dataset.load_case(case)
        unknown = {int(value) for value in np.unique(segmentation[0])} - known
        if unknown:
            raise XModalError(
                f"the label map of {case} holds the value {min(unknown)}, which dataset.json does not name: add it "
                'to "labels" or correct the file, then preprocess again.'
            )


def _flat(labels: Iterable[int | list[int] | tuple[int, ...]]) -> list[int]:
    return [int(value) for label in labels for value in (label if isinstance(label, list | tuple) else [label])]
