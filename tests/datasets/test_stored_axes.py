"""Which cases are stored along other axes than the rest, and what is said of it."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.datasets.stored_axes import (
    axes_noted,
    axes_of_cases,
    axes_of_model,
    most_common,
    recorded_axes,
    stored_axes,
    tell_of_other_axes,
)
from nnunet_xmodal.datasets.turned_cases import TurnedCases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.orientation import turned


def write(file, code, shape=(3, 4, 5)):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.zeros(shape, np.uint8))
    sitk.WriteImage(sitk.DICOMOrient(image, code) if len(shape) == 3 else image, str(file))
    return file


@pytest.mark.parametrize("reader", [None, "SimpleITKIO", "NibabelIO"])
@pytest.mark.parametrize("code", ["LPS", "RAS", "PSR", "ILA"])
def test_headers_tell(tmp_path, reader, code):
    assert stored_axes(write(tmp_path / "a.nii.gz", code), reader) == code


def test_some_files_have_no_axes(tmp_path):
    write(tmp_path / "picture.png", None, (4, 5))
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    write(tmp_path / "a.nii.gz", "RAS")
    files = {name: tmp_path / name for name in ("picture.png", "broken.nii.gz", "a.nii.gz", "absent.nii.gz")}
    assert axes_of_cases(files) == {"a.nii.gz": "RAS"}
    assert axes_of_cases(files, "SimpleITKIOWithReorient") == {}


@pytest.mark.parametrize(
    "axes, usual, said",
    [
        ({"a": "LPS", "b": "LPS"}, None, ""),
        ({"a": "LPS", "b": "PSR"}, None, "b (PSR) is stored along other axes than the rest (LPS)"),
        ({"a": "RAS", "b": "LPS", "c": "LPS"}, None, "a (RAS) is stored along other axes than the rest (LPS)"),
        ({"a": "LPI"}, "LPS", "a (LPI) is stored along other axes than the training cases (LPS)"),
        ({"a": "LPS"}, "LPS", ""),
        ({}, None, ""),
        ({c: "RAS" for c in "abcde"}, "LPS", "a (RAS), b (RAS), c (RAS) and 2 more are stored"),
    ],
)
def test_the_odd_ones_are_named(capsys, axes, usual, said):
    tell_of_other_axes(axes, "turn them", usual)
    told = capsys.readouterr().err
    assert said in told and bool(said) == ("turn them" in told)


def test_what_was_recorded():
    assert recorded_axes({}) is None and recorded_axes({"xmodal": {"streams": []}}) is None
    assert recorded_axes({"xmodal": {"orientation": "LPS"}}) == "LPS"
    with pytest.raises(XModalError, match='write three letters such as "LPS"'):
        recorded_axes({"xmodal": {"orientation": "head first"}})


def test_axes_of_a_model(tmp_path):
    described = {"file_ending": ".nii.gz"}
    assert axes_of_model(tmp_path, {}, described) is None
    for name, code in (("a", "RAS"), ("b", "LPS"), ("c", "RAS")):
        write(tmp_path / "fold_0" / "validation" / f"{name}.nii.gz", code)
    assert axes_of_model(tmp_path, {}, described) == "RAS"
    assert axes_of_model(tmp_path, {"xmodal": {"stored_axes": "PSR"}}, described) == "PSR"
    assert axes_of_model(tmp_path, {}, {**described, "xmodal": {"orientation": "LPS"}}) == "LPS"
    assert axes_of_model(tmp_path, {"image_reader_writer": "NibabelIOWithReorient"}, described) is None


LPS = {"sitk_stuff": {"spacing": (1, 1, 3), "origin": (0, 0, 0), "direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)}}
RPI = {"sitk_stuff": {"spacing": (1, 1, 3), "origin": (0, 0, 0), "direction": (-1, 0, 0, 0, 1, 0, 0, 0, -1)}}


class Cases:
    """A dataset of one case, preprocessed with the order of axes given."""

    identifiers = ["a"]

    def __init__(self, data, properties):
        self.case = data[None], (data > 0)[None], None, properties

    def load_case(self, case):
        return self.case


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_preprocessed_cases_run_one_way(order):
    array = np.random.default_rng(0).normal(size=(3, 4, 5))  # z y x, as stored
    loaded = TurnedCases(Cases(array.transpose(order), RPI), "LPS", order).load_case("a")
    expected = turned(array, "RPI", "LPS").transpose(order)
    assert np.array_equal(loaded[0][0], expected) and np.array_equal(loaded[1][0], expected > 0)


@pytest.mark.parametrize("properties, wanted", [(LPS, "LPS"), (RPI, None), ({}, "LPS"), (LPS, "PSR")])
def test_other_cases_stay_as_they_are(properties, wanted):
    cases = Cases(np.ones((3, 4, 5)), properties)
    assert TurnedCases(cases, wanted, (0, 1, 2)).load_case("a") is not None
    assert all(ours is theirs for ours, theirs in zip(TurnedCases(cases, wanted, (0, 1, 2)).load_case("a"), cases.case))


def test_what_readers_note():
    assert axes_noted(LPS) == "LPS" and axes_noted(RPI) == "RPI" and axes_noted({"spacing": (1, 1, 1)}) is None
    assert axes_noted({"nibabel_stuff": {"original_affine": np.eye(4)}}) == "RAS"
    assert axes_noted({"sitk_stuff": {**LPS["sitk_stuff"], "original_orientation": "LPI"}}) is None
    assert most_common({}) is None
