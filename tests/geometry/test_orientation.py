"""What is turned is stored otherwise and is where it was."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.orientation import (
    CODES,
    backward_axes,
    checked_code,
    code_of,
    only_backwards,
    oriented,
    towards_lps,
    turned,
    turned_numbers,
    turned_place,
)

OBLIQUE = Rotation.from_euler("xyz", [14, -9, 20], degrees=True).as_matrix()


@pytest.fixture
def image():
    made = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32))
    made.SetSpacing((1.0, 1.5, 3.0))
    made.SetOrigin((-7.0, 11.0, 2.5))
    made.SetDirection(OBLIQUE.ravel().tolist())
    return made


def test_there_are_48_codes():
    assert len(CODES) == len(set(CODES)) == 48 and {"LPS", "RAS", "PSR", "LPI"} <= set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_arrays_and_places_turn_as_itk_turns_them(image, code):
    reference = oriented(image, code)
    assert code_of(image.GetDirection()) == "LPS" and code_of(reference.GetDirection()) == code
    array = sitk.GetArrayFromImage(image)
    ours = turned(array, "LPS", code)
    assert np.array_equal(ours, sitk.GetArrayFromImage(reference)) and ours.flags.c_contiguous
    assert np.array_equal(turned(ours, code, "LPS"), array)
    place = turned_place(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection(), code)
    for name, value in place.items():
        assert np.allclose(value, getattr(reference, f"Get{name.title()}")(), atol=1e-9), name
    assert turned_numbers(image.GetSize(), "LPS", code) == list(reference.GetSize())


def test_channels_in_front_stay(image):
    array = sitk.GetArrayFromImage(image)
    both = turned(np.stack([array, -array]), "LPS", "PSR")
    assert np.array_equal(both[1], -turned(array, "LPS", "PSR"))


@pytest.mark.parametrize("first, second", itertools.product(("RAS", "PSR", "IRA"), repeat=2))
def test_any_way_there_is_the_same(image, first, second):
    array = sitk.GetArrayFromImage(image)
    assert np.array_equal(turned(turned(array, "LPS", first), first, second), turned(array, "LPS", second))


def test_the_same_axes_run_to_fixed_ends():
    assert [towards_lps(code) for code in ("LPS", "RAI", "PSR", "IRA")] == ["LPS", "LPS", "PSL", "SLP"]


def test_which_axes_run_backwards():
    assert only_backwards("LPS", "RPI") and backward_axes("LPS", "RPI") == [0, 2]
    assert not only_backwards("LPS", "PSR")


@pytest.mark.parametrize("word", ["", "LP", "LPSS", "LLS", "XYZ", "LRS"])
def test_other_words_are_none(word):
    with pytest.raises(XModalError, match="three letters"):
        checked_code(word)
    assert checked_code("ras") == "RAS"
