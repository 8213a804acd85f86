"""Whether images meet: boxes of voxels as wide as they are, wherever they lie."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from nnunet_xmodal.geometry.volume_grid import overlap


def slab(slices, thickness, rotation, centre, scale=1.0):
    """Slices of 60×60 mm, one mm in plane, around a point; all of it larger or smaller."""
    image = sitk.Image(60, 60, slices, sitk.sitkUInt8)
    image.SetSpacing((scale, scale, scale * thickness))
    image.SetDirection(rotation.ravel().tolist())
    image.SetOrigin((centre - rotation @ (scale * np.array([59, 59, (slices - 1) * thickness]) / 2)).tolist())
    return image


AXIAL, SAGITTAL = np.eye(3), np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("slices, thickness", [(1, 5.0), (2, 3.0), (3, 3.0)])
def test_thin_stacks_that_cross_meet(slices, thickness):
    rng = np.random.default_rng(0)
    for _ in range(50):
        first = slab(slices, thickness, AXIAL, np.zeros(3))
        second = slab(slices, thickness, SAGITTAL, rng.uniform(-25, 25, 3) * (1, 1, 0.5))
        assert overlap(first, second, np.eye(4)) and overlap(second, first, np.eye(4))


def test_stacks_meet_as_far_as_their_voxels_reach():
    first = slab(3, 4.0, AXIAL, np.zeros(3))
    for away, meets in ((11.9, True), (12.1, False)):  # 3 slices of 4 mm each
        assert overlap(first, slab(3, 4.0, AXIAL, np.array([0, 0, away])), np.eye(4)) == meets
    shift = np.eye(4)
    shift[2, 3] = 30.0  # fixed to moving points
    assert overlap(first, slab(3, 4.0, AXIAL, np.array([0, 0, 30.0])), shift)
    assert not overlap(first, first, shift)


def test_oblique_boxes_meet_where_a_sampling_of_both_does():
    rng = np.random.default_rng(1)
    met = 0
    for seed in range(60):
        turned, centre = Rotation.random(random_state=seed).as_matrix(), rng.uniform(-80, 80, 3)
        first, second = slab(20, 2.0, AXIAL, np.zeros(3)), slab(12, 3.0, turned, centre)
        points = rng.uniform(-0.5, 0.5, (100_000, 3)) * (60, 60, 40)
        index = (points - second.GetOrigin()) @ turned / second.GetSpacing()
        sampled = bool(((index >= -0.5) & (index <= np.array(second.GetSize()) - 0.5)).all(1).any())
        met += sampled
        if sampled:
            assert overlap(first, second, np.eye(4))
        else:  # what no point of so many shows is at most a corner
            assert not overlap(first, slab(12, 3.0, turned, centre, scale=0.8), np.eye(4))
    assert 10 < met < 50
