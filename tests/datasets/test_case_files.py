"""Cases that a training names and that are not there."""

from pathlib import Path

import pytest

from nnunet_xmodal.datasets.case_files import check_files
from nnunet_xmodal.errors import XModalError


class Cases:
    """Files of a folder, and those that a split names."""

    def __init__(self, folder, named, previous=None):
        self.source_folder, self.identifiers = str(folder), named
        self.folder_with_segs_from_previous_stage = previous and str(previous)

    @staticmethod
    def get_identifiers(folder):
        return [file.stem for file in Path(folder).iterdir()]


@pytest.fixture
def folder(tmp_path):
    def make(name, *cases):
        (tmp_path / name).mkdir()
        for case in cases:
            (tmp_path / name / f"{case}.b2nd").touch()
        return tmp_path / name

    return make


def test_a_case_of_the_split_that_is_not_preprocessed(folder):
    data = folder("data", "anna", "p.1")
    check_files([Cases(data, ["anna"]), Cases(data, ["p.1"])], None)
    sentence = "splits_final.json names carl and 1 more, and .*data lacks them: preprocess again, or correct"
    with pytest.raises(XModalError, match=sentence):
        check_files([Cases(data, ["anna"]), Cases(data, ["p.1", "emil", "carl"])], None)


def test_a_case_that_the_first_stage_has_not_predicted(folder, tmp_path):
    data, stage = folder("data", "anna", "p.1"), folder("3d_cascade_fullres", "p.1")
    check_files([Cases(data, ["p.1"], stage)], "3d_lowres")
    for previous in (stage, tmp_path / "nowhere"):
        with pytest.raises(
            XModalError, match=r"no prediction by 3d_lowres of anna( and 1 more)?: train 3d_lowres on all folds first"
        ):
            check_files([Cases(data, ["anna", "p.1"], previous)], "3d_lowres")
