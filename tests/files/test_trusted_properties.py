"""Pickles beside preprocessed voxels are read as data."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from batchgenerators.utilities.file_and_folder_operations import load_pickle

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trust import VARIABLE
from nnunet_xmodal.files.trusted_properties import read_properties


class Runs:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.fixture
def written(tmp_path):
    def write(content, protocol=pickle.DEFAULT_PROTOCOL):
        file = tmp_path / "case.pkl"
        file.write_bytes(pickle.dumps(content, protocol))
        return str(file)

    return write


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_what_nnunet_keeps_is_read_as_before(written, protocol):
    file = written(
        {
            "spacing": [np.float64(3.0), 1.0],
            "sitk_stuff": {"origin": (0.0, 1.0), "direction": tuple(np.eye(3).ravel())},
            "nibabel_stuff": {"original_affine": np.eye(4)},
            "bbox_used_for_cropping": [[0, 5], [np.int64(1), 3]],
            "class_locations": OrderedDict({1: np.arange(12).reshape(3, 4), (1, 2): np.zeros((0, 4), np.int64)}),
            "name": "a",
        },
        protocol,
    )
    np.testing.assert_equal(read_properties(file), load_pickle(file))


def test_what_runs_code_is_refused_and_not_run(written, tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    file = written({"spacing": [1.0], "more": Runs(tmp_path / "touched")})
    with pytest.raises(XModalError, match=r"case\.pkl holds (posix|nt)\.mkdir, which nnU-Net keeps about no case"):
        read_properties(file)
    assert not (tmp_path / "touched").exists()
    monkeypatch.setenv(VARIABLE, "1")
    read_properties(file)
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize("left", [0, 1, 10, -1])
def test_what_is_cut_off_is_said(written, left):
    file = written({"spacing": [1.0], "class_locations": {1: np.arange(9)}})
    content = open(file, "rb").read()
    open(file, "wb").write(content[:left])
    with pytest.raises(XModalError, match=r"case\.pkl is cut off or damaged .*: preprocess again\.$"):
        read_properties(file)
