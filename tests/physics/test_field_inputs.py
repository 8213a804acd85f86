"""What a network of susceptibility reads beside the field."""

import numpy as np
import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics.dipole import dipole_kernel
from nnunet_xmodal.physics.field_inputs import FieldInputs, known_voxels, magnitude_channel
from nnunet_xmodal.physics.measured_field import FieldGeometry, angle_to_nearest, distinct_directions
from nnunet_xmodal.physics.total_variation import total_variation

SIZE, GEOMETRY = (10, 12, 9), FieldGeometry((2.0, 1.0, 1.5), (0.36, 0.48, 0.8))


@pytest.fixture
def field():
    volume = np.zeros(SIZE, np.float32)
    volume[2:-2, 2:-2, 2:-2] = 0.02 * np.random.default_rng(0).standard_normal((6, 8, 5))
    return volume


def test_inversions_are_of_the_whole_field_and_counted_from_their_mean(field):
    inputs = FieldInputs(alphas=(2e-4, 5e-5), iterations=9)
    made = inputs.of_field(field, GEOMETRY)
    assert made.shape == (2, *SIZE) and made.dtype == np.float32
    values, inside = torch.from_numpy(field)[None, None], torch.from_numpy(field != 0)[None, None]
    expected = [total_variation(values, inside, *GEOMETRY, alpha, iterations=9) for alpha in (2e-4, 5e-5)]
    for ours, theirs in zip(made, expected):
        theirs = theirs[0, 0].numpy()
        np.testing.assert_allclose(ours[field != 0], (theirs - theirs[field != 0].mean())[field != 0], atol=1e-6)
        assert (ours[field == 0] == 0).all()
    np.testing.assert_allclose(inputs.of_field(-field, GEOMETRY), -made, atol=1e-7)


def test_a_magnitude_says_how_far_the_field_is_trusted(field):
    spoilt = field.copy()
    spoilt[4:6, 5:7, 4:6] = 1.0
    magnitude = np.full(SIZE, 500, np.float32)
    magnitude[4:6, 5:7, 4:6] = 0
    inputs = FieldInputs()
    right, wrong, weighted = (
        inputs.of_field(field, GEOMETRY, magnitude)[0],
        inputs.of_field(spoilt, GEOMETRY)[0],
        inputs.of_field(spoilt, GEOMETRY, magnitude)[0],
    )
    np.testing.assert_allclose(weighted, right, atol=1e-5)
    assert np.abs(wrong - right).max() > 0.05
    assert magnitude_channel(["field", "Magnitude"]) == 1 and magnitude_channel(["field", "T1"]) is None


def test_holes_in_a_field_are_known():
    volume = np.ones(SIZE, np.float32)
    volume[:2] = 0
    volume[5, 5, 5] = 0
    known = known_voxels(volume)
    assert known[5, 5, 5] and not known[:2].any() and known[2:].all()


def test_the_direction_is_told_as_the_dipole_sees_it():
    """D = 1/3 − Σ b_i b_j k_i k_j / |k|²: linear in what the network reads, the same for b and −b."""
    inputs = FieldInputs()
    assert inputs.channels == len(inputs.alphas) + 6 == FieldInputs(direction=False).channels + 6
    b = torch.tensor([GEOMETRY.direction, (0.0, 0.6, -0.8)])
    told = inputs.of_direction(b, (2, 3, 4))
    assert told.shape == (2, 6, 2, 3, 4) and torch.equal(told, inputs.of_direction(-b, (2, 3, 4)))
    rows, columns = np.triu_indices(3)
    k = np.array([0.1, -0.2, 0.3])
    both = np.where(rows == columns, 1, 2) * k[rows] * k[columns]
    for number, along in enumerate(b):
        expected = 1 / 3 - (both * told[number, :, 0, 0, 0].numpy()).sum() / (k**2).sum()
        assert expected == pytest.approx(1 / 3 - float((along.numpy() * k).sum()) ** 2 / (k**2).sum(), abs=1e-6)
    assert FieldInputs(direction=False).of_direction(b, (2, 3, 4)).shape == (2, 0, 2, 3, 4)
    assert dipole_kernel((4, 4, 4), (1.0, 1.0, 1.0), b[1]).shape == (4, 4, 3)


def test_plans_keep_them_and_models_from_before_have_none():
    inputs = FieldInputs(alphas=(3e-4,), odd=False)
    assert FieldInputs.of_entry(inputs.as_entry()) == inputs
    assert FieldInputs.of_entry(None) is None
    with pytest.raises(XModalError, match='"field_inputs" of the plans is .* does not know: take the version'):
        FieldInputs.of_entry({"alphas": [1e-4], "beta": 3})
    with pytest.raises(XModalError, match='"iterations" of "field_inputs" in the plans is no whole number: 30.0'):
        FieldInputs.of_entry({"alphas": [1e-4], "iterations": 30.0})
    for entry in ({"alphas": [0]}, {"alphas": ["0.1"]}, {"alphas": [1e-4], "iterations": True}):
        with pytest.raises(XModalError, match='numbers of "field_inputs" in the plans must be above 0, and one is'):
            FieldInputs.of_entry(entry)


def test_angles_between_main_fields_do_not_see_their_sign():
    trained = distinct_directions([(1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.8, 0.6, 0.0), (0.80001, 0.6, 0.0)])
    assert trained == [[1.0, 0.0, 0.0], [0.8, 0.6, 0.0]]
    assert angle_to_nearest((-1, 0, 0), trained) == pytest.approx(0)
    assert angle_to_nearest((0, 0, 1), trained) == pytest.approx(90)
    assert angle_to_nearest((0.8, -0.6, 0), [[0.8, 0.6, 0]]) == pytest.approx(73.74, abs=0.01)
