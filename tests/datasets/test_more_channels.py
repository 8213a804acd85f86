"""Channels behind those of a case, read as nnU-Net's loader reads them."""

import numpy as np
import pytest
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

from nnunet_xmodal.datasets.more_channels import StackedChannels, WithMoreChannels

DATA = np.random.default_rng(0).standard_normal((2, 6, 7, 8)).astype(np.float32)
MORE = np.random.default_rng(1).standard_normal((3, 6, 7, 8)).astype(np.float32)


class OnDisk:
    source_folder, identifiers = "somewhere", ["a", "b"]

    def load_case(self, case):
        return DATA, np.ones((1, 6, 7, 8), np.int16), None, {"case": case}


class Counting:
    """An array that notes what is read of it."""

    def __init__(self, array):
        self.array, self.shape, self.read = array, array.shape, 0

    def __getitem__(self, key):
        self.read += self.array[key].size
        return self.array[key]


@pytest.mark.parametrize("box", [[[1, 4], [0, 7], [2, 5]], [[-2, 3], [4, 9], [0, 8]]], ids=["within", "beyond"])
def test_a_patch_is_that_of_one_array(box):
    stacked = StackedChannels(DATA, MORE)
    whole = np.concatenate((DATA, MORE))
    assert stacked.shape == whole.shape and stacked.ndim == 4
    np.testing.assert_array_equal(crop_and_pad_nd(stacked, box, 0), crop_and_pad_nd(whole, box, 0))
    np.testing.assert_array_equal(stacked[:], whole)


def test_only_the_patch_is_read():
    more = Counting(MORE)
    StackedChannels(DATA, more)[(slice(None), slice(0, 2), slice(0, 2), slice(0, 2))]
    assert more.read == 3 * 2**3


def test_some_channels_alone_are_refused():
    with pytest.raises(IndexError, match="channels are read together"):
        StackedChannels(DATA, MORE)[0:1]


def test_a_dataset_with_more_channels_is_otherwise_itself():
    dataset = WithMoreChannels(OnDisk(), {"a": MORE, "b": 2 * MORE}.__getitem__)
    assert dataset.identifiers == ["a", "b"] and dataset.source_folder == "somewhere"
    data, labels, previous, properties = dataset.load_case("b")
    np.testing.assert_array_equal(data[:], np.concatenate((DATA, 2 * MORE)))
    assert labels.shape == (1, 6, 7, 8) and previous is None and properties == {"case": "b"}
