from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nnunet_xmodal.datasets.batch_check import check_batch, check_labels
from nnunet_xmodal.errors import XModalError


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_case_with_nan_or_infinity_is_named(value):
    data = torch.zeros(3, 2, 4, 4)
    data[1, 0, 2, 2] = value
    with pytest.raises(XModalError, match="case second holds NaN or infinite voxels"):
        check_batch({"data": data, "keys": ["first", "second", "third"]})


def test_large_but_finite_batches_pass():
    check_batch({"data": torch.full((2, 1, 8, 8), 3e38), "keys": ["a", "b"]})


def dataset(**segmentations):
    return SimpleNamespace(
        identifiers=list(segmentations), load_case=lambda case: (None, np.array([segmentations[case]]), None, {})
    )


@pytest.mark.parametrize(
    "all_labels, ignore", [([0, 1, 2], None), ([0, (1, 2), (2,)], None), ([0, (1, 2), (2,)], 3), ([0, 1, 2], 3)]
)
def test_known_labels_pass_and_the_unknown_is_named(all_labels, ignore):
    labels = SimpleNamespace(all_labels=all_labels, ignore_label=ignore)
    known = [-1, 0, 1, 2] + ([] if ignore is None else [ignore])
    check_labels([dataset(a=known)], labels)
    with pytest.raises(XModalError, match="label map of b holds the value 9"):
        check_labels([dataset(a=known), dataset(b=[0, 9])], labels)
