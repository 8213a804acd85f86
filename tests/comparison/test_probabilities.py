"""Probabilities that lie beside a prediction are of that prediction, or are refused."""

from pathlib import Path

import numpy as np
import pytest

from nnunet_xmodal.comparison.probabilities import check_prediction_of
from nnunet_xmodal.errors import XModalError

LABELS = {"labels": {"background": 0, "organ": 1, "lesion": 2, "ignore": 3}}
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}


def check(probabilities, predicted, dataset_json):
    check_prediction_of(Path("a.npz"), probabilities, Path("a.nii.gz"), predicted, dataset_json)


@pytest.fixture
def probabilities():
    return np.random.default_rng(0).dirichlet(np.ones(3), (5, 20, 20)).transpose(3, 0, 1, 2)  # 3 z y x


def test_a_prediction_of_labels_is_where_a_probability_is_largest(probabilities):
    predicted = probabilities.argmax(0)
    check(probabilities, predicted, LABELS)
    check(probabilities[:, :1], predicted[0], LABELS)  # files of one slice may lack z
    check(probabilities, np.where(predicted == 2, 0, predicted), LABELS)  # as postprocessing leaves it
    check(probabilities, np.zeros_like(predicted), LABELS)
    with pytest.raises(XModalError, match=r"a\.npz is of another prediction than a\.nii\.gz, \d\d% of whose .*--npz"):
        check(probabilities, np.roll(predicted, 1, axis=2), LABELS)


def test_a_prediction_of_regions_is_where_the_last_one_is_likely(probabilities):
    whole, core = probabilities[:2]  # core need not lie within whole
    predicted = np.where(core > 0.5, 2, whole > 0.5)
    check(probabilities[:2], predicted, REGIONS)
    with pytest.raises(XModalError, match="of another prediction"):
        check(probabilities[1::-1], predicted, REGIONS)


@pytest.mark.parametrize("voxels, refused", [(10, False), (11, True)])
def test_a_hundredth_of_the_labelled_voxels_may_differ(voxels, refused):
    predicted = np.ones((10, 10, 10), int)
    probabilities = np.stack((np.zeros(1000), np.ones(1000)))
    probabilities[:, :voxels] = [[1], [0]]
    try:
        check(probabilities.reshape(2, 10, 10, 10), predicted, {"labels": {"background": 0, "organ": 1}})
    except XModalError:
        assert refused
    else:
        assert not refused
