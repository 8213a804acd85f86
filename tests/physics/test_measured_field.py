"""Unit, strength and direction of a field: who says them, and what mirroring leaves alone."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics.dipole import dipole_kernel, forward
from nnunet_xmodal.physics.measured_field import MeasuredField, mirror_axes

SHAPE = (8, 10, 12)


def properties(cosines, spacing=(3.0, 1.0, 2.0), before=(12, 10, 9)):
    return {
        "sitk_stuff": {"direction": np.asarray(cosines).ravel().tolist()},
        "spacing": spacing,
        "shape_after_cropping_and_before_resampling": before,
    }


def test_flags_win_over_dataset_json_and_the_plans_keep_both():
    field = MeasuredField.of_entry({"unit": "Hz", "B0": 3.0}).with_flags(b0=7.0, direction=[1, 0, 0])
    assert field == MeasuredField("Hz", 7.0, None, (1, 0, 0))
    assert MeasuredField.of_entry(field.as_entry()) == field
    assert field.one_ppm == pytest.approx(7 * 42.577478518)
    assert MeasuredField.of_entry(None) == MeasuredField() and MeasuredField().one_ppm == 1


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MeasuredField("mT"), "'mT' is none of them"),
        (lambda: MeasuredField("Hz"), r"needs the strength of the main field \(B0\)"),
        (lambda: MeasuredField("rad", 3.0), r"needs the echo time \(TE\)"),
        (lambda: MeasuredField(direction=(0, 0, 0)), "not all 0"),
        (lambda: MeasuredField.of_entry({"units": "Hz"}), '"field" of dataset.json is .*units.*: write it as'),
        (lambda: MeasuredField.of_entry("Hz"), '"field" of dataset.json is'),
        (lambda: MeasuredField.of_entry({"direction": None}), 'direction of "field" in dataset.json is None: write it'),
        (lambda: MeasuredField.of_entry({"direction": "001"}), "direction of .* is '001': write it as three numbers"),
        (lambda: MeasuredField.of_entry({"direction": ["0", "0", "z"]}), "must be three numbers .* is .*'z'"),
        (lambda: MeasuredField.of_entry({"unit": "Hz", "B0": "3"}), r"\(B0\) in T as a positive number, and it is 3"),
        (lambda: MeasuredField.of_entry({"unit": "rad", "B0": 3, "TE": [0.02]}), r"\(TE\) in s as a positive number"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(make, message):
    with pytest.raises(XModalError, match=message):
        make()


def test_direction_and_effective_spacing_of_a_case():
    tilt = Rotation.from_euler("x", 30, degrees=True).as_matrix()  # columns are the array's x, y, z in the scanner
    geometry = MeasuredField().geometry(properties(tilt), SHAPE, (0, 1, 2))
    assert geometry.spacing == pytest.approx((3.0 * 12 / 8, 1.0, 2.0 * 9 / 12))
    np.testing.assert_allclose(geometry.direction, (np.cos(np.pi / 6), 0.5, 0), atol=1e-12)
    turned = MeasuredField(direction=tuple(tilt[:, 1])).geometry(properties(tilt), SHAPE, (0, 1, 2))
    np.testing.assert_allclose(turned.direction, (0, 1, 0), atol=1e-12)
    transposed = MeasuredField().geometry(properties(tilt), SHAPE, (1, 0, 2))
    np.testing.assert_allclose(transposed.direction, (0.5, np.cos(np.pi / 6), 0), atol=1e-12)


def test_another_reader_is_a_sentence():
    with pytest.raises(XModalError, match="not read by nnU-Net's SimpleITKIO"):
        MeasuredField().geometry({"nibabel_stuff": {}}, SHAPE, (0, 1, 2))


@pytest.mark.parametrize(
    "directions, axes",
    [
        ([(1, 0, 0)], (0, 1, 2)),
        ([(0, -1, 0)], (0, 1, 2)),
        ([(0.8, 0.6, 0)], (2,)),
        ([(0.8, 0, -0.6)], (1,)),
        ([(0.6, 0.64, 0.48)], ()),
        ([(1, 0, 0), (0.8, 0.6, 0)], (2,)),
        ([(0.8, 0, 0.6), (0.8, 0.6, 0)], ()),
    ],
    ids=str,
)
def test_mirroring_is_allowed_exactly_where_the_dipole_stays_the_same(directions, axes):
    assert mirror_axes(directions) == axes
    chi = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for axis in range(3):
        same = True
        for direction in directions:
            mirrored = forward(chi.flip(axis + 2), (2, 1, 1), direction).flip(axis + 2)
            same &= torch.allclose(mirrored, forward(chi, (2, 1, 1), direction), atol=1e-10)
        assert same == (axis in axes)


def test_the_kernel_does_not_see_the_sign_of_the_field():
    for b in ((0.6, 0.64, 0.48), (1.0, 0.0, 0.0)):
        minus = [-component for component in b]
        assert torch.equal(dipole_kernel(SHAPE, (1, 2, 3), b), dipole_kernel(SHAPE, (1, 2, 3), minus))
