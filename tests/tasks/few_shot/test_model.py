"""A few-shot model in memory is the command's, whatever it is told of the case."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk
from few_shot_scans import InMemory, ordered, run, scan, store_along, write
from resident_memory import resident

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.model import Model


def image_in(tmp_path):
    return sitk.ReadImage(str(tmp_path / "in" / "anna_0000.nii.gz"))


def voxels(image):
    return sitk.GetArrayFromImage(image)


def test_a_label_map_in_memory(make_model, write_support, tmp_path, from_folder_and_zip):
    folder = make_model(InMemory(scan(2, 3)))
    support = write_support({"a": 1, "b": 2}, scan(4, 5), label_of=lambda volume: np.maximum(volume - 3, 0))
    volume = scan(2, 5, 3)
    calls = [{}, {"support": support}, {"match": "best", "largest_component": True}, {}]
    expected = []
    for options in calls:
        flags = [word for name, value in options.items() for word in (f"--{name}", *([value] * (value is not True)))]
        expected.append(run(tmp_path, volume, *flags))
    assert not np.array_equal(expected[0], expected[1])
    for model in from_folder_and_zip(folder):
        for options, array in zip(calls, expected):  # nothing of a call is left to the next one
            np.testing.assert_array_equal(voxels(model({model.channels[0]: image_in(tmp_path)}, **options)), array)


def test_extents_in_memory_are_those_of_a_table(make_model, tmp_path, from_folder_and_zip):
    folder = make_model(InMemory(scan(2, 3)))
    volume = scan(2, 3)
    with open(tmp_path / "extents.csv", "w", newline="") as file:
        rows = [("case", "label", "first", "last"), ("anna", "edema", 1, 2), ("anna", 2, 0, 3)]
        csv.writer(file).writerows(rows)
    expected = run(tmp_path, volume, "--extents", tmp_path / "extents.csv")
    assert not np.array_equal(expected, run(tmp_path, volume))
    for model in from_folder_and_zip(folder):
        images = {model.channels[0]: image_in(tmp_path)}
        for first in (1, np.int64(1)):
            made = model(images, extents={"edema": (first, 2), 2: [0, 3]})
            np.testing.assert_array_equal(voxels(made), expected)


@pytest.mark.parametrize(
    "extents, sentence",
    [
        ({"edema": 3}, "extents of edema are 3: give the numbers of the first and the last slice"),
        ({"edema": (3,)}, r"extents of edema are \(3,\): give"),
        ({"edema": "12"}, "extents of edema are '12': give"),
        ({"liver": (1, 2)}, "names the label 'liver': take one of edema, 1, tumour, 2"),
        ({"edema": (3, 1)}, "has the slices '3' to '1'"),
        ({"edema": (3, 60)}, "from slice 3 to 60, but .* has 6 slices, 0 to 5"),
    ],
)
def test_wrong_extents_are_a_sentence(make_model, tmp_path, extents, sentence):
    write(tmp_path / "in", "anna_0000.nii.gz", scan(2, 3))
    with Model.load(make_model(InMemory(scan(2, 3))), device="cpu") as model:
        with pytest.raises(XModalError, match=sentence):
            model({model.channels[0]: image_in(tmp_path)}, extents=extents)


def test_a_scan_in_memory_may_be_stored_along_other_axes(make_model, tmp_path, from_folder_and_zip):
    """The training's axes are those of its validations, whose files have another ending than images in memory."""
    folder = make_model(InMemory(scan(2, 4, 5), label_of=ordered))
    write(folder / "fold_0" / "validation", "case0.nii.gz", scan(2))
    expected = run(tmp_path, scan(2, 4, 5, slices=9))
    assert not np.array_equal(expected, expected[::-1])
    store_along(tmp_path / "in", "LPI")
    for model in from_folder_and_zip(folder):
        found = model({model.channels[0]: image_in(tmp_path)})
        np.testing.assert_array_equal(voxels(sitk.DICOMOrient(found, "LPS")), expected)


@pytest.mark.slow
def test_fifty_calls_take_no_more_memory_than_ten(make_model, write_support, tmp_path):
    """With a support and extents, which make a network and a configuration of their own in every call."""
    write(tmp_path / "in", "anna_0000.nii.gz", scan(2, 3))
    options = {
        "support": write_support({"a": 1}, scan(2), label_of=lambda volume: volume - 1),
        "extents": {"a": (1, 3)},
    }
    with Model.load(make_model(InMemory(scan(2, 3))), device="cpu") as model:
        images = {model.channels[0]: image_in(tmp_path)}
        for _ in range(10):
            model(images, **options)
        before = resident()
        for _ in range(40):
            model(images, **options)
        assert resident() - before < 8e6
