"""Patches of unlabelled loaders, on cases in memory."""

from collections import Counter

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.synthesis.loader import UnlabelledLoader, UnpairedLoader

LABELS = {"background": 0, "edema": 1, "tumour": 2, "ignore": 3}


class InMemory:
    """As much of nnU-Net's dataset as its loader asks for; the first voxel of every case tells its number."""

    def __init__(self, n_cases, relabel=None, size=(4, 20, 24)):
        rng = np.random.default_rng(0)
        self.cases = {}
        for number in range(n_cases):
            label = rng.integers(0, 4, (1, *size)).astype(np.int16)
            if relabel:
                label = np.vectorize(relabel.get)(label).astype(np.int16)
            found = {value: np.argwhere(label == value) for value in (1, 2)}
            found[-1, 0, 1, 2] = np.argwhere(label < 3)
            image = rng.normal(size=(2, *size)).astype(np.float32)
            image += 100 * number
            self.cases[f"case_{number}"] = image, label, None, {"class_locations": found}
        self.identifiers = list(self.cases)

    def load_case(self, name):
        return self.cases[name]


def batches(loader_class, n_cases=3, relabel=None, ignore=True, patch=(8, 8), n=5):
    labels = {name: value for name, value in LABELS.items() if ignore or name != "ignore"}
    manager = LabelManager(labels, regions_class_order=None)
    loader = loader_class(InMemory(n_cases, relabel), 4, patch, patch, manager)
    np.random.seed(0)
    return [next(loader) for _ in range(n)]


@pytest.mark.parametrize("patch", [(8, 8), (4, 8, 8)], ids=str)
@pytest.mark.parametrize("ignore", [False, True])
def test_batches_are_identical_with_permuted_labels(ignore, patch):
    relabel = {0: 3, 1: 2, 2: 0, 3: 1} if ignore else {0: 2, 1: 0, 2: 1, 3: 1}
    as_they_are, permuted = (batches(UnlabelledLoader, relabel=r, ignore=ignore, patch=patch) for r in (None, relabel))
    for one, other in zip(as_they_are, permuted):
        assert torch.equal(one["data"], other["data"]) and list(one["keys"]) == list(other["keys"])
        assert not torch.equal(one["target"], other["target"])


def test_nnunets_own_loader_looks_at_labels_even_without_oversampling():
    relabel = {0: 3, 1: 2, 2: 0, 3: 1}
    as_they_are, permuted = (batches(nnUNetDataLoader, relabel=r) for r in (None, relabel))
    assert not all(torch.equal(one["data"], other["data"]) for one, other in zip(as_they_are, permuted))


@pytest.mark.parametrize("n_cases", [2, 3, 7])
def test_halves_of_an_unpaired_batch_come_from_different_cases(n_cases):
    drawn = Counter()
    for batch in batches(UnpairedLoader, n_cases, n=60):
        assert len(batch["data"]) == 8
        first, second = batch["keys"][:4], batch["keys"][4:]
        assert all(a != b for a, b in zip(first, second))
        drawn.update(zip(first, second))
        numbers = [round(sample.mean().item() / 100) for sample in batch["data"]]
        assert [f"case_{number}" for number in numbers] == list(batch["keys"])
    assert len(drawn) == n_cases * (n_cases - 1)  # every ordered pair


def test_one_case_cannot_be_unpaired():
    with pytest.raises(XModalError, match="a single training case: train with more cases or with nnUNetTrainerCMFT"):
        batches(UnpairedLoader, n_cases=1)
