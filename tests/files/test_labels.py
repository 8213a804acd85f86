import numpy as np
import torch

from nnunet_xmodal.files.dataset_labels import has_regions
from nnunet_xmodal.files.labels import foreground, ignore_label, inside, name_of_key

REGIONS = {"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3], "ignore": 4}}
LABELS = {"labels": {"background": 0, "zone": 1, "lesion": 2}}


def test_foreground_has_neither_background_nor_ignore_label():
    assert foreground(REGIONS) == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert foreground(LABELS) == {"zone": (1,), "lesion": (2,)}


def test_ignore_label_and_regions():
    assert (ignore_label(REGIONS), ignore_label(LABELS)) == (4, None)
    assert has_regions(REGIONS["labels"]) and not has_regions(LABELS["labels"])


def test_what_is_inside_is_foreground_and_not_to_be_ignored():
    labels = np.array([-1, 0, 1, 2, 3])
    assert inside(labels, None).tolist() == [False, False, True, True, True]
    assert inside(torch.from_numpy(labels), 3).tolist() == [False, False, True, True, False]


def test_keys_of_summaries_become_names():
    labels = foreground(REGIONS)
    assert [name_of_key(key, labels) for key in ("(1, 2, 3)", "(2, 3)", "(3,)", "3")] == [
        "whole",
        "core",
        "enhancing",
        "enhancing",
    ]
    assert name_of_key("7", labels) == "7"
    assert name_of_key("2", foreground(LABELS)) == "lesion"
