"""Reasons to look at a registration: disagreement, far moves, nothing to see, channels the wrong way round."""

import numpy as np
import pytest
import torch

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.grid_chain import GridChain, euler_transform
from nnunet_xmodal.tasks.registration.disagreement import disagreement
from nnunet_xmodal.tasks.registration.doubts import doubts
from nnunet_xmodal.tasks.registration.grid import RegistrationGrid
from nnunet_xmodal.tasks.registration.grid_centre import GridCentre
from nnunet_xmodal.tasks.registration.start import Start

SIZE = (8, 12, 12)
TRAINED = {"0": {"median": 300, "std": 80}, "1": {"median": 60, "std": 9}}
PLANS = {"foreground_intensity_properties_per_channel": TRAINED}
STRAIGHT = tuple(np.eye(3).ravel())


def matrices(*parameters):
    return rigid_transform.matrix(torch.tensor(parameters, dtype=torch.float64))


def test_one_opinion_does_not_disagree():
    assert disagreement(matrices((3.0, 2, 1, 40, 50, 60))) == 0


def test_shifts_disagree_by_their_deviation_and_degrees_by_what_they_move():
    assert disagreement(matrices((3.0, 0, 0, 0, 0, 0), (-3.0, 0, 0, 0, 0, 0))) == pytest.approx(3)
    moved = 20 * np.sqrt(2 / 3) * np.sin(np.deg2rad(10))  # four of six points lie beside the axis
    assert disagreement(matrices((0.0, 0, 0, 0, 0, 10), (0.0, 0, 0, 0, 0, -10))) == pytest.approx(moved)


def told(shift=0.0, apart=0.0, fixed=(300, 80), moving=(60, 9), plans=PLANS):
    rng = np.random.default_rng(0)
    images = [(mean + spread * rng.normal(size=SIZE)).astype(np.float32) for mean, spread in (fixed, moving)]
    chain = GridChain((1.0, 1.0, 2.0), (0.0,) * 3, STRAIGHT, (0, 1, 2), (0,) * 3, SIZE, SIZE, SIZE, (0,) * 3)
    grid = RegistrationGrid(*images, None, chain)
    found = np.eye(4)
    found[0, 3] = shift
    start = Start(euler_transform(np.eye(4), (0, 0, 0)), GridCentre(np.zeros(3), "point"))
    return doubts(euler_transform(found, (0, 0, 0)), start, grid, apart, plans)


def test_nothing_speaks_against_a_result():
    assert told(shift=19.0, apart=2.4) == []


@pytest.mark.parametrize(
    "given, reason",
    [
        ({"shift": 31.0}, "moved by 31 mm, beyond the 20 mm of the training"),
        ({"apart": 2.6}, "folds or shifted grids disagree by 2.6 mm"),
        ({"moving": (0, 0)}, "the moving image is constant on the grid"),
        ({"fixed": (60, 9), "moving": (300, 80)}, "fixed and moving image look swapped"),
    ],
)
def test_each_reason_is_given(given, reason):
    assert told(**given) == [reason]


def test_reasons_add_up():
    assert len(told(shift=50.0, apart=20.0)) == 2


@pytest.mark.parametrize("plans", [{}, {"foreground_intensity_properties_per_channel": {"0": {}, "1": {}}}])
def test_without_what_the_training_saw_nothing_is_suspected(plans):
    assert told(fixed=(60, 9), moving=(300, 80), plans=plans) == []


def test_images_of_alike_intensities_are_not_suspected():
    alike = {"0": {"median": 300, "std": 80}, "1": {"median": 280, "std": 70}}
    assert told(fixed=(280, 70), moving=(300, 80), plans={"foreground_intensity_properties_per_channel": alike}) == []
