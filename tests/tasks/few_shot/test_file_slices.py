"""Slices keep the numbers of their file through turning, transposing and cropping."""

import numpy as np
import pytest

from nnunet_xmodal.datasets.turned_cases import TurnedCases
from nnunet_xmodal.geometry.orientation import CODES
from nnunet_xmodal.prediction.turning import turning_reader
from nnunet_xmodal.tasks.few_shot.file_slices import FileSlices, file_slices

SHAPE = (9, 11, 13)  # of the file, z y x


def direction_of(code: str) -> tuple[float, ...]:
    """Nine cosines of an image that is stored along these axes."""
    columns = np.zeros((3, 3))
    for axis, letter in enumerate(code):
        row = next(index for index, pair in enumerate(("LR", "PA", "SI")) if letter in pair)
        columns[row, axis] = 1 if letter in "LPS" else -1
    return tuple(columns.ravel())


class Numbered:
    """Reads a file whose three channels hold each voxel's z, y and x."""

    def read_images(self, files):
        place = {"spacing": (1.0, 1.0, 1.0), "origin": (0.0, 0.0, 0.0), "direction": direction_of(files[0])}
        voxels = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")).astype(np.float32)
        return voxels, {"sitk_stuff": place, "spacing": [1.0, 1.0, 1.0]}


class OneCase:
    identifiers = ["anna"]

    def __init__(self, data, properties):
        self.case = data, data[:1], None, properties

    def load_case(self, case):
        return self.case


def preprocessed(code, turned_to, order, flipped_to=None):
    """A case as nnU-Net preprocesses it: read and turned, transposed, cropped; then turned again by `TurnedCases`."""
    reader = turning_reader(Numbered, turned_to)() if turned_to else Numbered()
    data, properties = reader.read_images([code])
    data = data.transpose(0, *(axis + 1 for axis in order))
    properties["shape_before_cropping"] = data.shape[1:]
    box = [[2, side - 3] for side in data.shape[1:]]
    properties["bbox_used_for_cropping"] = box
    data = data[(slice(None), *(slice(*ends) for ends in box))]
    data, _, _, properties = TurnedCases(OneCase(data, properties), flipped_to, order).load_case("anna")
    return data, file_slices(properties, order, data.shape[1])


def assert_numbered(data, slices: FileSlices):
    for index in range(data.shape[1]):
        values = np.unique(data[slices.axis, index])
        assert values.tolist() == [slices.in_file(index)]
        assert slices.preprocessed([slices.in_file(index)] * 2) == (index, index)
        assert slices.named(index) == f"slice {values[0]:.0f}" + ("", " along y", " along x")[slices.axis]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("code", CODES)
def test_of_scans_that_prediction_turns(code, order):
    data, slices = preprocessed(code, "LPS", order)
    assert_numbered(data, slices)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("code", ["LPS", "LPI", "RAI", "RPS", "PSR"])
def test_of_training_cases_that_run_the_other_way(code, order):
    data, slices = preprocessed(code, None, order, "LPS")
    assert_numbered(data, slices)


def test_an_extent_is_found_from_either_end_and_cut_to_the_slices_there_are():
    upwards, downwards = FileSlices(0, 2, 1, 5), FileSlices(0, 6, -1, 5)  # slices 2 to 6 of the file
    assert upwards.preprocessed((3, 5)) == (1, 3) and downwards.preprocessed((3, 5)) == (1, 3)
    assert upwards.preprocessed((0, 3)) == (0, 1) and downwards.preprocessed((0, 3)) == (3, 4)
    assert upwards.preprocessed((4, 90)) == (2, 4) and downwards.preprocessed((90, 4)) == (0, 2)
    for slices in (upwards, downwards):
        first, last = slices.preprocessed((0, 1))
        assert first > last


def test_without_a_note_slices_are_counted_as_they_come():
    assert file_slices({}, (0, 1, 2), 7) == FileSlices(0, 0, 1, 7)
