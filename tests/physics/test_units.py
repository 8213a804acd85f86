import math

import numpy as np
import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics.units import FIELD_UNITS, from_ppm, one_ppm_in, to_ppm


def test_one_ppm_at_3_tesla():
    assert one_ppm_in("ppm") == 1
    assert one_ppm_in("Hz", b0=3.0) == pytest.approx(127.732435554)
    assert one_ppm_in("rad", b0=3.0, echo_time=0.02) == pytest.approx(2 * math.pi * 127.732435554 * 0.02)


@pytest.mark.parametrize("unit", FIELD_UNITS)
@pytest.mark.parametrize("field", [0.03, np.array([0.1, -0.2]), torch.tensor([0.1, -0.2], dtype=torch.float64)])
def test_there_and_back(unit, field):
    there = from_ppm(field, unit, b0=7.0, echo_time=0.012)
    assert type(there) is type(field)
    np.testing.assert_allclose(to_ppm(there, unit, b0=7.0, echo_time=0.012), field, rtol=1e-14)


def test_a_field_in_hertz_does_not_depend_on_the_echo_time_nor_one_in_ppm_on_the_scanner():
    assert to_ppm(50.0, "Hz", b0=3.0) == to_ppm(50.0, "Hz", b0=3.0, echo_time=-1.0)
    assert to_ppm(0.05, "ppm") == to_ppm(0.05, "ppm", b0=-1.0) == 0.05


@pytest.mark.parametrize("value", [None, 0, -3.0, math.inf, math.nan, True, "3"])
def test_what_is_needed_and_no_positive_number_is_named(value):
    for unit in ("Hz", "rad"):
        with pytest.raises(XModalError, match=rf"a field in {unit} needs the strength .* \(B0\) in T .* it is {value}"):
            to_ppm(1.0, unit, b0=value, echo_time=0.02)
    with pytest.raises(XModalError, match=rf"a field in rad needs the echo time \(TE\) in s .* it is {value}"):
        from_ppm(1.0, "rad", b0=3.0, echo_time=value)


def test_numbers_of_numpy_are_numbers():
    assert to_ppm(1.0, "Hz", np.float32(3)) == to_ppm(1.0, "Hz", np.int64(3)) == to_ppm(1.0, "Hz", 3.0)


def test_an_echo_time_in_milliseconds_is_noticed():
    with pytest.raises(XModalError, match=r"the echo time \(TE\) is 20 s, which looks like milliseconds: divide it"):
        to_ppm(1.0, "rad", b0=3.0, echo_time=20)


def test_an_unknown_unit_is_named():
    with pytest.raises(XModalError, match="one of ppm, Hz, rad, and 'ppb' is none of them"):
        to_ppm(1.0, "ppb")
